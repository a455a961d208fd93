// Package retry tries again what failed: the database, NATS or another server may
// be away for a while. It is for loops that end with their context; what is to
// outlive the process has its schedule in a row.
package retry

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// Pauses are the pauses between attempts: First after the first failure, then
// each twice as long as the one before, up to Most. Where both are the same, so
// are all pauses.
type Pauses struct{ First, Most time.Duration }

// Do calls f at least once, and again until it succeeds, returns a [Permanent]
// error, or ctx ends. Its error is then f's last one.
func (p Pauses) Do(ctx context.Context, f func() error) error {
	var last error
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		last = f()
		return struct{}{}, last
	}, backoff.WithBackOff(p.Steps()), backoff.WithMaxElapsedTime(0))
	if err == nil {
		return nil
	}
	if permanent, ok := errors.AsType[*backoff.PermanentError](last); ok {
		return permanent.Unwrap()
	}
	return last
}

// Steps yields the pauses, for a loop that waits for more than their end: each
// call of NextBackOff is the next one, and Reset begins anew.
func (p Pauses) Steps() *backoff.ExponentialBackOff {
	b := &backoff.ExponentialBackOff{InitialInterval: p.First, MaxInterval: p.Most, Multiplier: 2}
	b.Reset()
	return b
}

// Permanent marks an error of Do's function as one that another attempt would
// only repeat.
func Permanent(err error) error { return backoff.Permanent(err) }
