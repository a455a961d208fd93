package jobs

import (
	"cmp"
	"math/rand/v2"
	"time"
)

// A Policy says how often and how far apart a kind's jobs are attempted. A
// zero field means that of [DefaultPolicy].
type Policy struct {
	// MaxAttempts is how many runs a job gets, counting those that ended with
	// their process.
	MaxAttempts int
	// MinBackoff is the wait after the first failure; it doubles with each, up
	// to MaxBackoff.
	MinBackoff, MaxBackoff time.Duration
}

// DefaultPolicy is what a policy has where it says nothing.
func DefaultPolicy() Policy {
	return Policy{MaxAttempts: 10, MinBackoff: 5 * time.Second, MaxBackoff: 10 * time.Minute}
}

func (p Policy) withDefaults() Policy {
	d := DefaultPolicy()
	return Policy{
		MaxAttempts: cmp.Or(p.MaxAttempts, d.MaxAttempts),
		MinBackoff:  cmp.Or(p.MinBackoff, d.MinBackoff),
		MaxBackoff:  cmp.Or(p.MaxBackoff, d.MaxBackoff),
	}
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
