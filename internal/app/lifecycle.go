package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
)

// lifecycle runs stages that stand on one another: they start in order and end
// in reverse, each awaited before the one below it is told to end. The first
// stage that ends by itself ends them all.
type lifecycle struct {
	log    *slog.Logger
	parent context.Context // for values; its end is not the stages' end
	failed chan error

	mu     sync.Mutex
	stages []*stage
}

type stage struct {
	name   string
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

func newLifecycle(ctx context.Context, log *slog.Logger) *lifecycle {
	return &lifecycle{log: log, parent: context.WithoutCancel(ctx), failed: make(chan error, 1)}
}

// start runs the stage in a goroutine that stop awaits.
func (l *lifecycle) start(name string, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(l.parent)
	s := &stage{name: name, cancel: cancel, done: make(chan struct{})}
	l.mu.Lock()
	l.stages = append(l.stages, s)
	l.mu.Unlock()
	go func() {
		defer close(s.done)
		err := run(ctx)
		if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
			return // it ended because it was told to
		}
		if err == nil {
			err = errors.New("ended by itself")
		}
		s.err = fmt.Errorf("%s: %w", name, err)
		select {
		case l.failed <- s.err:
		default:
		}
	}()
}

// stop ends all stages, the newest first, and returns what went wrong.
func (l *lifecycle) stop() error {
	l.mu.Lock()
	stages := l.stages
	l.stages = nil
	l.mu.Unlock()
	var errs []error
	for i := len(stages) - 1; i >= 0; i-- {
		s := stages[i]
		l.log.Debug("stopping", "stage", s.name)
		s.cancel()
		<-s.done
		if s.err != nil {
			errs = append(errs, s.err)
		}
	}
	return errors.Join(errs...)
}
