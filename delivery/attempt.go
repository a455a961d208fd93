package delivery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/time/rate"

	"tocsin.dev/tocsin/internal/text"
)

// openTarget is a target with its users counted, so that it is closed after
// the last attempt with it.
type openTarget struct {
	sub  Subscription
	once sync.Once
	// t and err are set by once, which sets state.
	t     Target
	err   error
	state atomic.Int32 // targetNew, targetOpen or targetFailed

	users   int  // under the lane's lock
	dropped bool // no longer the lane's
}

const (
	targetNew int32 = iota
	targetOpen
	targetFailed
)

// acquire returns the lane's target for one attempt. The lane is locked.
func (l *lane) acquire() *openTarget {
	if l.target == nil {
		l.target = &openTarget{sub: l.sub}
	}
	l.target.users++
	return l.target
}

// letGo ends the use of a target. The lane is locked.
func (l *lane) letGo(o *openTarget) {
	o.users--
	if o.state.Load() == targetFailed && l.target == o {
		l.dropTarget()
		return
	}
	l.closeUnused(o)
}

// dropTarget makes the next attempt open a new target. The lane is locked.
func (l *lane) dropTarget() {
	o := l.target
	if o == nil {
		return
	}
	l.target = nil
	o.dropped = true
	l.closeUnused(o)
}

// obey lowers the lane's rate to what the target itself asks for. The lane is
// locked.
func (l *lane) obey(o *openTarget) {
	if o != l.target || o.state.Load() != targetOpen {
		return
	}
	t, ok := o.t.(Limited)
	if !ok {
		return
	}
	if r := rate.Limit(t.Rate()); r > 0 && r < l.limiter.Limit() {
		l.limiter = rate.NewLimiter(r, max(l.sub.Config.Burst, 1))
	}
}

func (l *lane) closeUnused(o *openTarget) {
	if !o.dropped || o.users > 0 || o.state.Load() != targetOpen {
		return
	}
	l.q.workers.Go(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(l.ctx), 5*time.Second)
		defer cancel()
		if err := o.t.Close(ctx); err != nil {
			l.q.log.DebugContext(ctx, "target not closed cleanly", slog.String("subscription", l.id.String()), slog.Any("error", err))
		}
	})
}

// work makes attempts until the lane has none for it. extra says that it is
// not the lane's first worker, but one of the replica's extra ones.
func (l *lane) work(target *openTarget, batch []row, done func(error), extra bool) {
	for {
		results := l.attempt(target, batch)
		l.mu.Lock()
		l.conclude(target.sub, results, done)
		l.obey(target)
		l.letGo(target)
		if l.running > l.sub.Config.Concurrency {
			break
		}
		if batch, done = l.take(); batch == nil {
			break
		}
		target = l.acquire()
		l.pumpLocked()
		l.mu.Unlock()
	}
	l.running--
	if extra {
		l.q.extra.give()
	} else {
		l.first = false
	}
	l.pumpLocked()
	l.mu.Unlock()
}

// result is what became of one delivery of a batch.
type result struct {
	row     row
	out     Outcome
	begun   time.Time
	took    time.Duration
	unready bool // no attempt was made: the event could not be read
	missing bool // the event does not exist any more
	left    bool // no attempt was made: the batch was full
}

// maxBatchBytes is how much one batch holds at most, unless its first event
// is larger.
const maxBatchBytes = 1 << 20

// attempt makes one attempt at a batch.
func (l *lane) attempt(target *openTarget, batch []row) []result {
	results := make([]result, len(batch))
	ids := make([]uuid.UUID, len(batch))
	for i, r := range batch {
		results[i] = result{row: r}
		ids[i] = r.event
	}
	events, err := l.q.events.get(l.ctx, ids)
	if err != nil {
		for i := range results {
			results[i].unready = true
		}
		return results
	}
	ordered := target.sub.Config.Ordered
	waits := false // an ordered batch ends before what can't be sent now
	messages := make([]Message, 0, len(batch))
	sent := make([]int, 0, len(batch))
	size := 0
	for i, e := range events {
		size += len(e.structured)
		switch {
		case waits, size > maxBatchBytes && len(messages) > 0:
			results[i].left = true
		case e.err != nil:
			l.q.log.WarnContext(l.ctx, "event not read", slog.String("event", e.id.String()), slog.Any("error", e.err))
			results[i].unready, waits = true, ordered
		case e.unreadable != nil:
			results[i].begun, waits = time.Now(), ordered
			results[i].out = Outcome{Class: ClassUnreadable, Err: fmt.Errorf("the event cannot be read: %w", e.unreadable)}
			l.q.metrics.attempts.WithLabelValues(target.sub.Protocol, string(ClassUnreadable)).Inc()
		case e.event == nil:
			results[i].missing = true
		case e.invalid != nil:
			results[i].begun = time.Now()
			results[i].out = Outcome{Class: ClassRejected, Err: fmt.Errorf("the event cannot be written as JSON: %w", e.invalid)}
		default:
			messages = append(messages, Message{
				DeliveryID: batch[i].id, EventID: e.event.ID(), Attempt: batch[i].attempts + 1, Event: e.event, Structured: e.structured,
			})
			sent = append(sent, i)
		}
	}
	if len(messages) == 0 {
		return results
	}
	begun := time.Now()
	out := l.deliver(target, messages)
	took := time.Since(begun)
	l.q.metrics.attempt(target.sub.Protocol, out.Class, took)
	for _, i := range sent {
		results[i].out, results[i].begun, results[i].took = out, begun, took
	}
	return results
}

var errAttemptTimeout = fmt.Errorf("no answer in the time allowed for an attempt: %w", context.DeadlineExceeded)

func (l *lane) deliver(target *openTarget, messages []Message) (out Outcome) {
	ctx, cancel := context.WithTimeoutCause(l.ctx, target.sub.Config.Timeout, errAttemptTimeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			l.q.log.ErrorContext(ctx, "target panicked", slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			out = Outcome{Class: ClassInvalid, Err: fmt.Errorf("internal error: %v", p)}
		}
		if out.Class == ClassCanceled && l.ctx.Err() == nil {
			out.Class = ClassConnect // by somebody else: it was an attempt
			if ctx.Err() != nil {
				out.Class = ClassTimeout
			}
		}
	}()
	target.once.Do(func() {
		// A panic must leave an error behind, for those who wait.
		target.err = errors.New("the target was not opened")
		target.state.Store(targetFailed)
		opener, ok := l.q.o.Openers[target.sub.Protocol]
		if !ok {
			target.err = Failed(ClassInvalid, fmt.Errorf("protocol %q is not supported", target.sub.Protocol))
			return
		}
		if target.t, target.err = opener.Open(ctx, target.sub); target.err == nil {
			target.state.Store(targetOpen)
		}
	})
	if target.err != nil {
		return Failure(target.err)
	}
	return target.t.Deliver(ctx, messages)
}

// conclude decides what becomes of a batch's deliveries, tells the breaker,
// and hands the outcomes to be settled. The lane is locked.
func (l *lane) conclude(sub Subscription, results []result, done func(error)) {
	c := sub.Config
	say := errNeutral
	var last Outcome // of what was sent, if anything was
	unreadable := false
	for _, r := range results {
		switch {
		case r.begun.IsZero():
		case r.out.Class == ClassUnreadable:
			unreadable = true
		default:
			last = r.out
			say = verdict(r.out.Class)
		}
	}
	done(say)
	settle := make([]settlement, 0, len(results))
	for _, r := range results {
		switch {
		case r.unready:
			// Still due: the next look at the queue finds it.
			l.putBack(r.row)
			l.pauseFor(time.Second)
		case r.left:
			l.putBack(r.row)
			l.discard()
		case r.out.Class == ClassCanceled && !r.begun.IsZero():
			l.putBack(r.row) // the lane is ending
		default:
			settle = append(settle, settled(l, c, r))
		}
	}
	l.settling += len(settle)
	l.q.settles.add(settle)
	if last.RetryAfter > 0 && sub.Version == l.sub.Version {
		l.hold(min(last.RetryAfter, MaxRetryAfter))
	}
	if c.Ordered && (unreadable || last.Class != ClassDelivered) {
		l.discard()
		l.blocked = len(settle) > 0
	}
	if last.Class == ClassGone {
		l.disable(last)
	} else if l.breaker.changed {
		l.breaker.changed = false
		l.breakerChanged(c.Breaker, last)
	}
}

// pauseFor holds the whole lane back. The lane is locked.
func (l *lane) pauseFor(d time.Duration) {
	if until := time.Now().Add(d); until.After(l.pause) {
		l.pause = until
	}
	l.discard()
	l.timer.Reset(d)
}

// settled is the row's next state after an attempt.
func settled(l *lane, c Config, r result) settlement {
	s := settlement{lane: l, id: r.row.id, state: stateDelivered, number: r.row.attempts + 1, begun: r.begun, took: r.took,
		class: r.out.Class, status: r.out.Status, response: snippet(r.out.Response)}
	if r.missing {
		s.state, s.number = stateDropped, 0
		return s
	}
	if r.out.Err != nil {
		s.err = snippet(r.out.Err.Error())
	}
	switch r.out.Class {
	case ClassDelivered:
	case ClassRejected, ClassGone:
		s.state = stateDead
	default:
		delay, again := NextDelay(c.Schedule, s.number, r.out.RetryAfter, c.Jitter, rand.Float64())
		s.state, s.delay = statePending, delay
		if !again {
			s.state = stateDead
		}
	}
	return s
}

// snippet is what the database keeps of a text: valid UTF-8 without NUL, at
// most [SnippetLimit] bytes.
func snippet(s string) string {
	return text.Cut(strings.ToValidUTF8(strings.ReplaceAll(text.Cut(s, SnippetLimit), "\x00", ""), "?"), SnippetLimit)
}
