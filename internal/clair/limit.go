package clair

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
)

// maxResting is how many index requests may wait for their jobs at a time. Each
// costs a connection and a goroutine.
const maxResting = 1024

// limiter bounds index requests: those that are worked on by a number of slots,
// and those that only wait for a job by [maxResting].
type limiter struct {
	slots   chan struct{} // nil: no bound
	resting atomic.Int64
}

// newLimiter returns a limiter of n slots; 0 means four a processor, a negative
// number no bound.
func newLimiter(n int) *limiter {
	if n == 0 {
		n = 4 * runtime.GOMAXPROCS(0)
	}
	l := &limiter{}
	if n > 0 {
		l.slots = make(chan struct{}, n)
	}
	return l
}

type restKey struct{}

// enter takes a slot, if there is one, until rest is called with the returned
// context or leave is called, which must be.
func (l *limiter) enter(ctx context.Context) (inside context.Context, leave func(), ok bool) {
	if l.resting.Load() >= maxResting {
		return nil, nil, false
	}
	if l.slots != nil {
		select {
		case l.slots <- struct{}{}:
		default:
			return nil, nil, false
		}
	}
	var rested bool
	free := sync.OnceFunc(func() {
		if l.slots != nil {
			<-l.slots
		}
	})
	sleep := sync.OnceFunc(func() {
		rested = true
		l.resting.Add(1)
		free()
	})
	leave = func() {
		free()
		if rested {
			l.resting.Add(-1)
		}
	}
	return context.WithValue(ctx, restKey{}, sleep), leave, true
}

// rest gives up the slot of the request that ctx belongs to: from here on it
// waits for work that others do. It is called by the goroutine of the request.
func rest(ctx context.Context) {
	if sleep, ok := ctx.Value(restKey{}).(func()); ok {
		sleep()
	}
}
