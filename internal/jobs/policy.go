package jobs

import (
	"math/rand/v2"
	"time"
)

// A Policy says how often and how far apart a kind's jobs are attempted.
type Policy struct {
	// MaxAttempts is how many runs a job gets, counting those that ended with
	// their process; 5 if zero.
	MaxAttempts int
	// MinBackoff is the wait after the first failure; it doubles with each, up
	// to MaxBackoff. 5 s and 10 min if zero.
	MinBackoff, MaxBackoff time.Duration
}

func (p Policy) withDefaults() Policy {
	if p.MaxAttempts == 0 {
		p.MaxAttempts = 5
	}
	if p.MinBackoff == 0 {
		p.MinBackoff = 5 * time.Second
	}
	if p.MaxBackoff == 0 {
		p.MaxBackoff = 10 * time.Minute
	}
	return p
}

// backoff is the wait after the given number of attempts, before jitter.
func (p Policy) backoff(attempts int) time.Duration {
	d := p.MinBackoff
	for range attempts - 1 {
		if d >= p.MaxBackoff/2 {
			return p.MaxBackoff
		}
		d *= 2
	}
	return min(d, p.MaxBackoff)
}

// jitter moves d by at most a fifth either way.
func jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
}
