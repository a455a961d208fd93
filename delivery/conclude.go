package delivery

import (
	"math/rand/v2"
	"strings"
	"time"

	"tocsin.dev/tocsin/internal/text"
)

// conclusion is what follows from one attempt at a batch.
type conclusion struct {
	verdict verdict
	last    Outcome // of what was sent, if anything was
	settle  []settlement
	back    []row // still in the queue as they are
	unread  bool  // some of back could not be read now
}

// conclude works out what follows from the results of an attempt under the
// given configuration. random is in [0, 1).
func conclude(c Config, results []result, random func() float64) conclusion {
	out := conclusion{verdict: errNeutral, settle: make([]settlement, 0, len(results))}
	for _, r := range results {
		attempted := !r.begun.IsZero()
		if attempted && r.out.Class != ClassUnreadable {
			out.last = r.out
			out.verdict = verdictOf(r.out.Class)
		}
		switch {
		case r.unready, r.left, attempted && r.out.Class == ClassCanceled:
			out.back = append(out.back, r.row)
			out.unread = out.unread || r.unready
		default:
			out.settle = append(out.settle, settle(c, r, random()))
		}
	}
	return out
}

// settle is the delivery's next state after an attempt.
func settle(c Config, r result, random float64) settlement {
	s := settlement{
		id: r.row.id, state: stateDelivered, number: r.row.attempts + 1, begun: r.begun, took: r.took,
		class: r.out.Class, status: r.out.Status, response: snippet(r.out.Response),
	}
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
		delay, again := NextDelay(c.Schedule, s.number, r.out.RetryAfter, c.Jitter, random)
		s.state, s.delay = statePending, delay
		if !again {
			s.state = stateDead
		}
	}
	return s
}

// unreadWait is how long a lane waits when events could not be read.
const unreadWait = time.Second

// conclude settles what a worker has attempted and lets the breaker, the hold
// and the window follow from it.
func (l *lane) conclude(m attempted) {
	c := conclude(m.target.sub.Config, m.results, rand.Float64)
	m.verdict(c.verdict)
	for i := range c.settle {
		c.settle[i].lane = l
		l.window.attempted(c.settle[i].id, c.settle[i].state == statePending)
	}
	if len(c.back) > 0 {
		l.window.giveBack(c.back...)
	}
	now := l.host.now()
	if c.unread {
		l.gate.hold(now.Add(unreadWait))
	}
	if len(c.settle) > 0 {
		l.host.settle(c.settle)
	}
	if c.last.RetryAfter > 0 && m.target.sub.Version == l.sub.Version {
		l.leaveAlone(now.Add(min(c.last.RetryAfter, MaxRetryAfter)))
	}
	if m.target == l.target {
		l.gate.lower(m.target.rate(), l.sub.Config.Burst)
		if m.target.failed.Load() {
			l.drop() // the next attempt opens it anew
		}
	}
	state, changed := l.gate.breaker.change()
	switch {
	case c.last.Class == ClassGone:
		l.disable(c.last)
	case changed && state == BreakerClosed:
		l.recovered(c.last)
	case changed:
		l.opened(m.target.sub.Config.Breaker, c.last)
	}
}

// snippet is what the database keeps of a text: valid UTF-8 without NUL, at
// most [SnippetLimit] bytes.
func snippet(s string) string {
	return text.Cut(strings.ToValidUTF8(strings.ReplaceAll(text.Cut(s, SnippetLimit), "\x00", ""), "?"), SnippetLimit)
}
