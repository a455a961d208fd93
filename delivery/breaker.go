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

// errFailed and errNeutral stand for outcomes towards gobreaker.
var (
	errFailed  = errors.New("failed")
	errNeutral = errors.New("says nothing about the target")
)

// breaker is the breaker of one lane. Its owner alone attempts deliveries, so
// gobreaker's own counts are those of all replicas; what must outlive the
// owner, that it is open and until when, is in the lane's row. A breaker that
// opens ends its lane; whoever claims the lane after the open time has a
// half-open one, which lets one probe through.
//
// gobreaker's DistributedCircuitBreaker is not used because it holds the shared
// lock for as long as the request takes, and reads the state before it has
// the lock: attempts at one target would go one at a time and still lose
// counts.
type breaker struct {
	cb       *gobreaker.TwoStepCircuitBreaker[struct{}]
	row      breakerRow
	restored bool // opened by restore, not by an outcome
	changed  bool
}

func newBreaker(c BreakerConfig, row breakerRow) *breaker {
	b := &breaker{row: row}
	bucket := c.Window / 10
	b.cb = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests:  1,
		Interval:     c.Window,
		BucketPeriod: bucket,
		// The open time proper is in the lane's row: by the time this breaker
		// exists, it is over.
		Timeout: time.Nanosecond,
		ReadyToTrip: func(n gobreaker.Counts) bool {
			if b.restored || int(n.ConsecutiveFailures) >= c.Failures {
				return true
			}
			judged := n.TotalSuccesses + n.TotalFailures
			return int(judged) >= c.Minimum && float64(n.TotalFailures) >= c.Ratio*float64(judged)
		},
		OnStateChange: func(_ string, from, to gobreaker.State) {
			switch {
			case b.restored:
			case to == gobreaker.StateOpen:
				b.row.state, b.changed = BreakerOpen, true
			case to == gobreaker.StateClosed:
				b.row.state, b.changed = BreakerClosed, true
			}
		},
		IsExcluded: func(err error) bool { return errors.Is(err, errNeutral) },
	})
	if row.state == BreakerHalfOpen {
		b.restored = true
		if done, err := b.cb.Allow(); err == nil {
			done(errFailed)
		}
		for b.cb.State() != gobreaker.StateHalfOpen {
			time.Sleep(time.Microsecond)
		}
		b.restored = false
	}
	return b
}

// allow asks for leave to make an attempt; done takes its outcome.
func (b *breaker) allow() (done func(error), ok bool) {
	if b.row.state == BreakerOpen {
		return nil, false
	}
	done, err := b.cb.Allow()
	return done, err == nil
}

// verdict is what an outcome of the class says to the breaker.
func verdict(c Class) error {
	switch c {
	case ClassDelivered:
		return nil
	case ClassThrottled, ClassRejected, ClassUnreadable, ClassCanceled:
		return errNeutral
	}
	return errFailed
}

// openFor is how long the breaker stays open the nth time in a row, n from 1:
// the configured time, doubled with each, up to the bound.
func openFor(c BreakerConfig, n int) time.Duration {
	d := c.Open
	for i := 1; i < n && d < c.MaxOpen; i++ {
		d *= 2
	}
	return min(d, c.MaxOpen)
}
