package delivery

import (
	"time"

	"golang.org/x/time/rate"
)

// gate decides whether a lane may make an attempt now: the pause that the
// target asked for, the rate limit, and the breaker. It reads no clock except for
// the breaker's counts. Only its lane uses it.
type gate struct {
	limiter *rate.Limiter
	until   time.Time // no attempt before
	breaker *breaker
}

func newGate(c Config, b breakerRow) gate {
	return gate{limiter: limiter(c.Rate, c.Burst), breaker: newBreaker(c.Breaker, b)}
}

func limiter(perSecond float64, burst int) *rate.Limiter {
	if perSecond <= 0 {
		return rate.NewLimiter(rate.Inf, 0)
	}
	return rate.NewLimiter(rate.Limit(perSecond), max(burst, 1))
}

// enter asks for leave to make one attempt. With leave, tell is not nil and
// takes what the attempt says about the target. Without, at is when to ask
// again; zero means after an outcome of an attempt under way.
func (g *gate) enter(now time.Time) (tell func(verdict), at time.Time) {
	if g.held(now) {
		return nil, g.until
	}
	reserved := g.limiter.ReserveN(now, 1)
	if wait := reserved.DelayFrom(now); wait > 0 {
		reserved.CancelAt(now)
		return nil, now.Add(wait)
	}
	if tell, at = g.breaker.allow(now); tell == nil {
		reserved.CancelAt(now)
	}
	return tell, at
}

// held reports whether the pause that the target asked for is not over.
func (g *gate) held(now time.Time) bool { return g.until.After(now) }

// hold allows no attempt before t.
func (g *gate) hold(t time.Time) {
	if t.After(g.until) {
		g.until = t
	}
}

// lower makes the limit the given one if that is lower; 0 is no limit.
func (g *gate) lower(perSecond float64, burst int) {
	if perSecond > 0 && rate.Limit(perSecond) < g.limiter.Limit() {
		g.limiter = limiter(perSecond, burst)
	}
}

// closed says that the breaker is closed: attempts need not be single probes.
func (g *gate) closed() bool { return g.breaker.row.state == BreakerClosed }

// ahead is how many batches are worth reading ahead at the present rate: what
// waits here cannot be dropped any more, so two seconds' worth.
func (g *gate) ahead() int {
	limit := g.limiter.Limit()
	if limit == rate.Inf {
		return maxHeld
	}
	return max(int(2*limit), g.limiter.Burst())
}

// reconfigure applies new settings. What the old sink asked for, the new one
// has not.
func (g *gate) reconfigure(old, c Config) {
	g.limiter = limiter(c.Rate, c.Burst)
	if c.Breaker != old.Breaker {
		g.breaker = newBreaker(c.Breaker, g.breaker.row)
	}
	g.until = time.Time{}
}
