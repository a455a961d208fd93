package retry_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"tocsin.dev/tocsin/internal/retry"
)

var errAway = errors.New("away")

func TestDoWaitsTwiceAsLongEachTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start, at := time.Now(), []time.Duration(nil)
		err := retry.Pauses{First: time.Second, Most: 5 * time.Second}.Do(t.Context(), func() error {
			if at = append(at, time.Since(start)); len(at) < 6 {
				return errAway
			}
			return nil
		})
		want := []time.Duration{0, 1, 3, 7, 12, 17}
		for i := range want {
			want[i] *= time.Second
		}
		if err != nil || !slices.Equal(at, want) {
			t.Errorf("%v, tried at %v, want %v", err, at, want)
		}
	})
}

func TestDoHasNoEndOfItsOwn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		err := retry.Pauses{First: time.Minute, Most: time.Minute}.Do(t.Context(), func() error {
			if time.Since(start) < 48*time.Hour {
				return errAway
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func TestDoEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
		defer cancel()
		start := time.Now()
		if err := (retry.Pauses{First: time.Minute, Most: time.Hour}).Do(ctx, func() error { return errAway }); !errors.Is(err, errAway) {
			t.Errorf("%v, want the last failure", err)
		}
		if took := time.Since(start); took != 90*time.Second {
			t.Errorf("it ended after %v, want the context's end", took)
		}
		tried := 0
		if err := (retry.Pauses{First: time.Minute, Most: time.Hour}).Do(ctx, func() error { tried++; return nil }); err != nil || tried != 1 {
			t.Errorf("after its context has ended: %v, tried %d times, want once", err, tried)
		}
	})
}

func TestPermanentErrorsEndIt(t *testing.T) {
	t.Parallel()
	tried := 0
	err := retry.Pauses{First: time.Hour, Most: time.Hour}.Do(t.Context(), func() error { tried++; return retry.Permanent(errAway) })
	if err != errAway || tried != 1 { // as it is, unwrapped
		t.Errorf("%v after %d attempts", err, tried)
	}
}
