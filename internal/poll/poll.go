// Package poll runs work that others hint at and that is found without a hint
// too.
package poll

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"tocsin.dev/tocsin/internal/retry"
)

// longest is the longest pause of work that keeps failing.
const longest = 30 * time.Second

// Loop says when to look for work.
type Loop struct {
	Hints  <-chan struct{} // a value says that there may be work; nil, or closed: none come
	Every  time.Duration   // how often to look without a hint, half more or less
	Logger *slog.Logger    // for failures
}

// Run calls work until ctx ends: again at once while it says that it did some,
// else at a hint or after Every. A failure is logged and waited out, each time
// twice as long, up to 30 seconds.
func (l Loop) Run(ctx context.Context, work func(context.Context) (worked bool, err error)) {
	hints, failures := l.Hints, retry.Pauses{First: min(2*l.Every, longest), Most: longest}.Steps()
	for ctx.Err() == nil {
		pause := l.Every
		worked, err := work(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			pause = failures.NextBackOff()
			l.Logger.WarnContext(ctx, "work failed and is tried again", "reason", err, "in", pause)
		case worked:
			failures.Reset()
			continue
		default:
			failures.Reset()
		}
		timer := time.NewTimer(pause/2 + rand.N(pause))
		select {
		case <-ctx.Done():
		case <-timer.C:
		case _, ok := <-hints:
			if !ok {
				hints = nil
			}
		}
		timer.Stop()
	}
}
