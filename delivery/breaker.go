package delivery

import (
	"errors"
	"time"

	"github.com/sony/gobreaker/v2"
)

// Breaker states, as kept in tocsin.lane.
const (
	BreakerClosed   = "closed"
	BreakerOpen     = "open"
	BreakerHalfOpen = "half-open"
)

// breakerRow is what tocsin.lane keeps of a breaker.
type breakerRow struct {
	state        string
	opens        int // times it opened since it was last closed
	failingSince *time.Time
}

// verdict is what an attempt says about the health of its target.
type verdict error

// The verdicts: nil is a success.
var (
	errFailed  verdict = errors.New("the target failed")
	errNeutral verdict = errors.New("nothing is known about the target")
)

// verdictOf is what an outcome of the class says about the target.
func verdictOf(c Class) verdict {
	switch c {
	case ClassDelivered:
		return nil
	case ClassThrottled, ClassRejected, ClassUnreadable, ClassCanceled:
		return errNeutral
	}
	return errFailed
}

// breaker is the breaker of one lane. Its owner alone attempts deliveries, so
// gobreaker's own counts are those of all replicas; what must outlive the
// owner, that it is open and until when, is in the lane's row. A breaker that
// opens ends its lane; whoever claims the lane after the open time has a
// half-open one, which lets one probe through.
//
// gobreaker's DistributedCircuitBreaker is not used because it holds the shared
// lock for as long as the request takes, and reads the state before it has
// the lock: attempts at one target would go one at a time and still lose
// counts. gobreaker reads the time itself: its window does not follow
// Options.Clock.
type breaker struct {
	cb      *gobreaker.TwoStepCircuitBreaker[struct{}]
	row     breakerRow
	changed bool // row.state changed since it was last looked at
}

// reopened is how long gobreaker's own open state lasts. The open time proper
// is in the lane's row: it is over before a lane is claimed.
const reopened = time.Nanosecond

func newBreaker(c BreakerConfig, row breakerRow) *breaker {
	b := &breaker{row: row}
	restoring := row.state == BreakerHalfOpen
	b.cb = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests:  1,
		Interval:     c.Window,
		BucketPeriod: c.Window / 10,
		Timeout:      reopened,
		ReadyToTrip: func(n gobreaker.Counts) bool {
			if restoring || int(n.ConsecutiveFailures) >= c.ConsecutiveFailures {
				return true
			}
			judged := n.TotalSuccesses + n.TotalFailures
			return int(judged) >= c.MinAttempts && float64(n.TotalFailures) >= c.FailureRatio*float64(judged)
		},
		OnStateChange: func(_ string, _, to gobreaker.State) {
			switch {
			case restoring:
			case to == gobreaker.StateOpen:
				b.row.state, b.changed = BreakerOpen, true
			case to == gobreaker.StateClosed:
				b.row.state, b.changed = BreakerClosed, true
			}
		},
		IsExcluded: func(err error) bool { return errors.Is(err, errNeutral) },
	})
	if restoring {
		if done, err := b.cb.Allow(); err == nil {
			done(errFailed)
		}
		restoring = false
	}
	return b
}

// allow asks for leave to make an attempt; tell takes its verdict. Without
// leave, at is when to ask again, or zero for after the verdict of the probe
// under way.
func (b *breaker) allow(now time.Time) (tell func(verdict), at time.Time) {
	if b.row.state == BreakerOpen {
		return nil, time.Time{}
	}
	done, err := b.cb.Allow()
	switch {
	case err == nil:
		return func(v verdict) { done(v) }, time.Time{}
	case errors.Is(err, gobreaker.ErrOpenState):
		return nil, now.Add(time.Microsecond) // restored within the same nanosecond
	}
	return nil, time.Time{}
}

// change is the state that the breaker has come to, once.
func (b *breaker) change() (state string, changed bool) {
	changed, b.changed = b.changed, false
	return b.row.state, changed
}

// openFor is how long the breaker stays open the nth time in a row, n from 1:
// the configured time, doubled with each, up to the bound.
func openFor(c BreakerConfig, n int) time.Duration {
	d := c.OpenFor
	for i := 1; i < n && d < c.MaxOpenFor; i++ {
		d *= 2
	}
	return min(d, c.MaxOpenFor)
}
