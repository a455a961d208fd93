package subscription

import (
	"fmt"
	"time"

	"tocsin.dev/tocsin/schemas"
)

func (c *checker) config(spec *schemas.Subscription) {
	k := &spec.Config
	c.duration("/config/timeout", k.Timeout, maxTimeout)
	c.count("/config/concurrency", k.Concurrency, maxParallel)
	c.count("/config/batch_size", k.BatchSize, maxBatchSize)
	if k.Ordered && k.Concurrency > 1 {
		c.refuse("/config/concurrency", "leave it out", "is %d, but ordered delivery is one at a time", k.Concurrency)
	}
	if r := k.Retry; r != nil {
		if len(r.Schedule) > maxSchedule {
			c.refuse("/config/retry/schedule", "", "has %d steps, over the limit of %d", len(r.Schedule), maxSchedule)
		}
		for i, d := range r.Schedule {
			if at := fmt.Sprintf("/config/retry/schedule/%d", i); d == 0 {
				c.refuse(at, "such as 5s", "is zero")
			} else {
				c.duration(at, d, maxDelay)
			}
		}
		if r.Jitter != nil {
			c.share("/config/retry/jitter", *r.Jitter)
		}
	}
	if r := k.Rate; r != nil {
		if !(r.PerSecond > 0 && r.PerSecond <= maxRate) {
			c.refuse("/config/rate/per_second", fmt.Sprintf("over 0, up to %d", maxRate), "is %g", r.PerSecond)
		}
		c.count("/config/rate/burst", r.Burst, maxRate)
	}
	if b := k.Breaker; b != nil {
		c.count("/config/breaker/consecutive_failures", b.ConsecutiveFailures, 100_000)
		c.count("/config/breaker/min_attempts", b.MinAttempts, 100_000)
		c.share("/config/breaker/failure_ratio", b.FailureRatio)
		c.duration("/config/breaker/window", b.Window, maxDelay)
		c.duration("/config/breaker/open_for", b.OpenFor, maxDelay)
		c.duration("/config/breaker/max_open_for", b.MaxOpenFor, maxDelay)
		if b.MaxOpenFor > 0 && b.MaxOpenFor < b.OpenFor {
			c.refuse("/config/breaker/max_open_for", "", "is shorter than open_for")
		}
		// Negative means never.
		c.duration("/config/breaker/disable_after", max(b.DisableAfter, 0), 365*24*time.Hour)
	}
	switch {
	case k.Mode == schemas.ModeClair && k.Granularity != schemas.GranularityUpdate:
		c.refuse("/config/granularity", "update", "mode clair speaks of whole updates")
	case k.Mode != schemas.ModeBatched && k.BatchSize != 0:
		c.refuse("/config/batch_size", "batched", "is only for mode batched")
	}
}

func (c *checker) duration(at string, d schemas.Duration, most time.Duration) {
	if d < 0 || time.Duration(d) > most {
		c.refuse(at, "0s to "+most.String(), "is %s", time.Duration(d))
	}
}

func (c *checker) count(at string, n, most int) {
	if n < 0 || n > most {
		c.refuse(at, fmt.Sprintf("0 to %d", most), "is %d", n)
	}
}

func (c *checker) share(at string, f float64) {
	if !(f >= 0 && f <= 1) {
		c.refuse(at, "0 to 1", "is %g", f)
	}
}
