package delivery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/google/uuid"
)

// result is what became of one delivery of a batch.
type result struct {
	row     row
	out     Outcome
	begun   time.Time // zero: no attempt was made
	took    time.Duration
	unready bool // no attempt was made: the event could not be read now
	missing bool // the event does not exist any more
	left    bool // no attempt was made: the batch was full
}

// maxBatchBytes is how much one batch holds at most, unless its first event
// is larger.
const maxBatchBytes = 1 << 20

var (
	errAttemptTimeout = fmt.Errorf("no answer in the time allowed for an attempt: %w", context.DeadlineExceeded)
	errNotOpened      = errors.New("the target was not opened")
)

// attempt makes one attempt at a batch.
func (w *Worker) attempt(ctx context.Context, target *openTarget, batch []row) []result {
	results := make([]result, len(batch))
	ids := make([]uuid.UUID, len(batch))
	for i, r := range batch {
		results[i] = result{row: r}
		ids[i] = r.event
	}
	events, err := w.events.get(ctx, ids)
	if err != nil {
		for i := range results {
			results[i].unready = true
		}
		return results
	}
	messages, sent := w.assemble(ctx, target, events, results)
	if len(messages) == 0 {
		return results
	}
	begun := w.now()
	out := w.deliver(ctx, target, messages)
	took := w.now().Sub(begun)
	w.metrics.attempt(target.sub.Protocol, out.Class, took)
	for _, i := range sent {
		results[i].out, results[i].begun, results[i].took = out, begun, took
	}
	return results
}

// assemble makes messages of the events that can be sent, which are those of
// the results named by sent; of the others, the results say why not.
func (w *Worker) assemble(ctx context.Context, target *openTarget, events []*rendering, results []result) (messages []Message, sent []int) {
	ordered := target.sub.Config.Ordered
	waits := false // an ordered batch ends before what can't be sent now
	messages = make([]Message, 0, len(results))
	sent = make([]int, 0, len(results))
	size := 0
	for i, e := range events {
		r := &results[i]
		size += len(e.structured)
		switch {
		case waits, size > maxBatchBytes && len(messages) > 0:
			r.left = true
		case e.err != nil:
			w.log.WarnContext(ctx, "event not read", slog.String("event", e.id.String()), slog.Any("error", e.err))
			r.unready, waits = true, ordered
		case e.unreadable != nil:
			r.begun, waits = w.now(), ordered
			r.out = Outcome{Class: ClassUnreadable, Err: fmt.Errorf("the event cannot be read: %w", e.unreadable)}
			w.metrics.attempts.WithLabelValues(target.sub.Protocol, string(ClassUnreadable)).Inc()
		case e.event == nil:
			r.missing = true
		case e.invalid != nil:
			r.begun = w.now()
			r.out = Outcome{Class: ClassRejected, Err: fmt.Errorf("the event cannot be written as JSON: %w", e.invalid)}
		default:
			messages = append(messages, Message{
				DeliveryID: r.row.id, EventID: e.event.ID(), Attempt: r.row.attempts + 1, Event: e.event, Structured: e.structured,
			})
			sent = append(sent, i)
		}
	}
	return messages, sent
}

// deliver hands messages to the target, within the time of one attempt.
func (w *Worker) deliver(parent context.Context, target *openTarget, messages []Message) (out Outcome) {
	ctx, cancel := context.WithTimeoutCause(parent, target.sub.Config.Timeout, errAttemptTimeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			w.log.ErrorContext(ctx, "target panicked", slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			out = Outcome{Class: ClassInvalid, Err: fmt.Errorf("internal error: %v", p)}
		}
		if out.Class == ClassCanceled && parent.Err() == nil {
			out.Class = ClassConnect // by somebody else: it was an attempt
			if ctx.Err() != nil {
				out.Class = ClassTimeout
			}
		}
	}()
	opener, ok := w.o.Openers[target.sub.Protocol]
	if !ok {
		return Failure(Failed(ClassInvalid, fmt.Errorf("protocol %q is not supported", target.sub.Protocol)))
	}
	t, err := target.open(ctx, opener)
	if err != nil {
		return Failure(err)
	}
	return t.Deliver(ctx, messages)
}

// close closes a target after its last use.
func (w *Worker) close(ctx context.Context, t Target) {
	ctx, cancel := context.WithTimeout(ctx, closeTime)
	defer cancel()
	if err := t.Close(ctx); err != nil {
		w.log.DebugContext(ctx, "target not closed cleanly", slog.Any("error", err))
	}
}

// closeTime is how long a target may take to close.
const closeTime = 5 * time.Second
