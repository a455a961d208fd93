package telemetry

import (
	"context"
	"time"
)

// Proof returns a check that lets one good answer of check speak for it for some
// time, and asks once for all who look meanwhile. A bad answer speaks for nobody
// else. It may be called concurrently.
func Proof(age time.Duration, check func(context.Context) error) func(context.Context) error {
	turn := make(chan struct{}, 1)
	var good time.Time // guarded by turn
	return func(ctx context.Context) error {
		select {
		case turn <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		defer func() { <-turn }()
		if !good.IsZero() && time.Since(good) < age {
			return nil
		}
		begun := time.Now()
		if err := check(ctx); err != nil {
			good = time.Time{}
			return err
		}
		good = begun
		return nil
	}
}
