package delivery

import "time"

// DefaultSchedule are the delays between attempts unless a subscription says
// otherwise: 5 s, 30 s, 2 min, 10 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h and
// 24 h. That is 12 attempts over 75 h 42 min 35 s, before jitter.
func DefaultSchedule() []time.Duration {
	return []time.Duration{
		5 * time.Second, 30 * time.Second,
		2 * time.Minute, 10 * time.Minute, 30 * time.Minute,
		2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
	}
}

// MaxRetryAfter bounds what a target's Retry-After is believed to mean.
const MaxRetryAfter = 24 * time.Hour

// NextDelay is how long to wait after the given number of failed attempts (1
// after the first): the schedule's delay, shorter or longer by up to the share
// jitter of it, so that a target which comes back is not met by all at once.
// It is false when the schedule is used up. A retryAfter above zero makes the
// wait longer, never shorter, or a target that asks for a second each time
// would use its schedule up within seconds: it is bounded by [MaxRetryAfter]
// and never undercut, jitter only adds to it. random is in [0, 1); 0.5 leaves a
// scheduled delay as it is.
func NextDelay(schedule []time.Duration, attempts int, retryAfter time.Duration, jitter, random float64) (time.Duration, bool) {
	if attempts < 1 || attempts > len(schedule) {
		return 0, false
	}
	jitter = min(max(jitter, 0), 1)
	d := schedule[attempts-1]
	d += time.Duration(jitter * (2*random - 1) * float64(d))
	if retryAfter > 0 {
		asked := min(retryAfter, MaxRetryAfter)
		d = max(d, asked+time.Duration(jitter*random*float64(asked)))
	}
	return d, true
}
