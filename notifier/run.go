package notifier

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// Run relays the outbox, matches what is pending and keeps the event log's
// partitions, until ctx ends and all that has ended too. At its start it seals
// again, with the keyring's first key, the secrets that another key sealed. Any
// number of replicas may run. A failing database or NATS is logged and waited
// out.
func (l *Log) Run(ctx context.Context) error {
	if l.Enqueuer == nil || l.Renderer == nil {
		return fmt.Errorf("notifier: Run needs an Enqueuer and a Renderer")
	}
	loops := []func(context.Context){l.runPartitions, l.runPending, l.warm, l.reseal}
	if l.Publisher != nil {
		loops = append(loops, l.runRelay)
	}
	var wg sync.WaitGroup
	for _, loop := range loops {
		wg.Go(func() { loop(ctx) })
	}
	wg.Wait()
	return nil
}

// warm compiles the subscriptions, and notes the public URL, before the first
// event waits for it.
func (l *Log) warm(ctx context.Context) {
	_, err := l.current(ctx, l.Pool)
	if err == nil {
		_, err = l.eventBase(ctx)
	}
	if err != nil && ctx.Err() == nil {
		l.Logger.WarnContext(ctx, "the subscriptions and the public URL could not be read ahead", "reason", err)
	}
}

// reseal exchanges the key of old secrets, if it has been exchanged.
func (l *Log) reseal(ctx context.Context) {
	if l.Keyring == nil {
		return
	}
	n, err := l.Reseal(ctx)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		l.Logger.ErrorContext(ctx, "some secrets are sealed with a key that is not there", "reason", err)
	case n > 0:
		l.Logger.InfoContext(ctx, "secrets were sealed again with the first key", "secrets", n)
	}
}

// maxPause is the longest that a failing loop waits before it tries again.
const maxPause = 30 * time.Second

// every calls work until ctx ends: again at once while there is some, else at
// a hint on subject or after Poll. Failures are logged and waited out.
func (l *Log) every(ctx context.Context, subject string, work func(context.Context) (worked bool, err error)) {
	var hints <-chan struct{}
	if l.Waker != nil {
		hints = l.Waker.OnWake(ctx, subject)
	}
	pause := l.Poll
	for ctx.Err() == nil {
		worked, err := work(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			l.Logger.WarnContext(ctx, "work failed and is tried again", "reason", err, "in", pause)
			pause = min(2*pause, maxPause)
		case worked:
			pause = l.Poll
			continue
		default:
			pause = l.Poll
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
