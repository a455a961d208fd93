package poll_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
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
		var mu sync.Mutex // the loop's timer orders nothing between it and the test
		var done int
		var answer func() (bool, error)
		set := func(f func() (bool, error)) {
			mu.Lock()
			defer mu.Unlock()
			answer = f
		}
		calls := func() int {
			mu.Lock()
			defer mu.Unlock()
			return done
		}
		set(func() (bool, error) { return false, nil })
		go poll.Loop{Hints: hints, Every: time.Hour, Logger: slog.New(slog.DiscardHandler)}.Run(ctx, func(context.Context) (bool, error) {
			mu.Lock()
			defer mu.Unlock()
			done++
			return answer()
		})
		synctest.Wait()
		if n := calls(); n != 1 {
			t.Errorf("%d calls at the start, want 1", n)
		}
		hints <- struct{}{}
		synctest.Wait()
		if n := calls(); n != 2 {
			t.Errorf("%d calls after a hint, want 2", n)
		}
		left := 3
		set(func() (bool, error) { left--; return left > 0, nil })
		hints <- struct{}{}
		synctest.Wait()
		if n := calls(); n != 5 {
			t.Errorf("%d calls, want one after another while there is work", n)
		}
		time.Sleep(90*time.Minute + time.Second)
		synctest.Wait()
		if n := calls(); n != 6 && n != 7 {
			t.Errorf("%d calls after one and a half intervals, want one or two more", n)
		}
		set(func() (bool, error) { return true, errors.New("the database is away") })
		close(hints) // a bus that is closed: polling alone is left
		before := calls()
		time.Sleep(90 * time.Second)
		synctest.Wait()
		if n := calls() - before; n < 2 || n > 8 {
			t.Errorf("%d calls in 90 seconds of failures", n)
		}
	})
}
