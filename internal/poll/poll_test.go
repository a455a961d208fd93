package poll_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"tocsin.dev/tocsin/internal/poll"
)

func TestLoop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		hints := make(chan struct{}, 1)
		var calls int
		var answer func() (bool, error)
		answer = func() (bool, error) { return false, nil }
		go poll.Loop{Hints: hints, Every: time.Hour, Logger: slog.New(slog.DiscardHandler)}.Run(ctx, func(context.Context) (bool, error) {
			calls++
			return answer()
		})
		synctest.Wait()
		if calls != 1 {
			t.Errorf("%d calls at the start, want 1", calls)
		}
		hints <- struct{}{}
		synctest.Wait()
		if calls != 2 {
			t.Errorf("%d calls after a hint, want 2", calls)
		}
		left := 3
		answer = func() (bool, error) { left--; return left > 0, nil }
		hints <- struct{}{}
		synctest.Wait()
		if calls != 5 {
			t.Errorf("%d calls, want one after another while there is work", calls)
		}
		time.Sleep(90*time.Minute + time.Second)
		synctest.Wait()
		if calls != 6 && calls != 7 {
			t.Errorf("%d calls after one and a half intervals, want one or two more", calls)
		}
		answer = func() (bool, error) { return true, errors.New("the database is away") }
		close(hints) // a bus that is closed: polling alone is left
		before := calls
		time.Sleep(90 * time.Second)
		synctest.Wait()
		if n := calls - before; n < 2 || n > 8 {
			t.Errorf("%d calls in 90 seconds of failures", n)
		}
	})
}
