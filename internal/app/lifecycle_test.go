package app

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
)

func TestStagesEndInReverse(t *testing.T) {
	t.Parallel()
	l := newLifecycle(t.Context(), slog.New(slog.DiscardHandler))
	var mu sync.Mutex
	var ended []string
	for _, name := range []string{"database", "bus", "roles"} {
		l.start(name, func(ctx context.Context) error {
			<-ctx.Done()
			mu.Lock()
			defer mu.Unlock()
			ended = append(ended, name)
			return ctx.Err()
		})
	}
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(ended, []string{"roles", "bus", "database"}) {
		t.Errorf("stages ended as %v", ended)
	}
}

func TestAStageThatEndsByItselfIsReported(t *testing.T) {
	t.Parallel()
	l := newLifecycle(t.Context(), slog.New(slog.DiscardHandler))
	broke := errors.New("broke")
	l.start("steady", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
	l.start("weak", func(context.Context) error { return broke })
	if err := <-l.failed; !errors.Is(err, broke) {
		t.Errorf("reported %v", err)
	}
	if err := l.stop(); !errors.Is(err, broke) {
		t.Errorf("stop returned %v", err)
	}
}
