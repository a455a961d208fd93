package delivery

import (
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// bubbled is a test within a bubble, as rapid takes it: it has no deadline.
type bubbled struct{ *testing.T }

// TestGate plays random attempts at a target within a bubble, where time is
// what the test says: no attempt within a hold, no more than the rate allows,
// none while the breaker is open, one probe at a time while it is half-open;
// and a gate that refuses says when to ask again, or has attempts under way.
func TestGate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(bubbled{t}, func(t *rapid.T) {
			c := Config{
				Rate: float64(rapid.IntRange(0, 20).Draw(t, "rate")), Burst: rapid.IntRange(1, 4).Draw(t, "burst"),
				Breaker: BreakerConfig{ConsecutiveFailures: rapid.IntRange(1, 5).Draw(t, "failures"), MinAttempts: 1000},
			}.WithDefaults()
			state := rapid.SampledFrom([]string{BreakerClosed, BreakerHalfOpen}).Draw(t, "state")
			g := newGate(c, breakerRow{state: state})
			var (
				under []func(verdict) // attempts under way
				begun []time.Time
				held  time.Time
				inRow int
			)
			for range rapid.IntRange(1, 60).Draw(t, "steps") {
				switch rapid.IntRange(0, 3).Draw(t, "what") {
				case 0, 1:
					now := time.Now()
					tell, at := g.enter(now)
					if tell == nil {
						switch {
						case !at.IsZero() && !at.After(now):
							t.Fatalf("refused until %v ago", now.Sub(at))
						case at.IsZero() && len(under) == 0 && g.breaker.row.state != BreakerOpen:
							t.Fatal("refused without a time, with nothing under way")
						case !at.IsZero():
							time.Sleep(at.Sub(now))
							if tell, at = g.enter(time.Now()); tell == nil && len(under) == 0 && g.breaker.row.state != BreakerOpen {
								t.Fatalf("refused again at the time given, until %v later", time.Until(at))
							}
						}
					}
					if tell == nil {
						continue
					}
					now = time.Now()
					switch {
					case held.After(now):
						t.Fatalf("an attempt %v before the hold ends", held.Sub(now))
					case g.breaker.row.state == BreakerOpen:
						t.Fatal("an attempt while the breaker is open")
					case g.breaker.row.state == BreakerHalfOpen && len(under) > 0:
						t.Fatal("a second probe at once")
					}
					begun = append(begun, now)
					if n := len(begun) - c.Burst - 1; c.Rate > 0 && n >= 0 {
						// The limiter counts in nanoseconds.
						if d, least := now.Sub(begun[n]), time.Duration(float64(time.Second)/c.Rate)-time.Microsecond; d < least {
							t.Fatalf("%d attempts within %v at %v/s", c.Burst+1, d, c.Rate)
						}
					}
					under = append(under, tell)
				case 2:
					if len(under) == 0 {
						continue
					}
					before := g.breaker.row.state
					v := rapid.SampledFrom([]verdict{nil, errFailed, errNeutral}).Draw(t, "verdict")
					under[0](v)
					under = under[1:]
					switch {
					case v == nil:
						inRow = 0
					case v == errFailed:
						inRow++
					}
					want := before
					switch {
					case before == BreakerHalfOpen && v == nil:
						want = BreakerClosed
					case before == BreakerHalfOpen && v == errFailed, before == BreakerClosed && inRow >= c.Breaker.ConsecutiveFailures:
						want = BreakerOpen
					}
					if got, changed := g.breaker.change(); got != want || changed != (want != before) {
						t.Fatalf("after %v in state %s with %d failures in a row of %d: %s, changed %v", v, before, inRow, c.Breaker.ConsecutiveFailures, got, changed)
					}
				case 3:
					held = time.Now().Add(time.Duration(rapid.IntRange(0, 5).Draw(t, "hold")) * time.Second)
					g.hold(held)
					held = g.until
				}
			}
		})
	})
}

// A half-open breaker is there at once: nothing waits for it under a lock.
func TestRestoredBreakerLetsOneProbeThrough(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(Config{}.WithDefaults().Breaker, breakerRow{state: BreakerHalfOpen, opens: 3})
		tell, at := b.allow(time.Now())
		if tell == nil {
			time.Sleep(time.Until(at))
			tell, _ = b.allow(time.Now())
		}
		if tell == nil {
			t.Fatal("no probe")
		}
		if second, at := b.allow(time.Now()); second != nil || !at.IsZero() {
			t.Fatalf("a second probe, or one at %v, while the first is under way", at)
		}
		tell(errNeutral)
		if tell, _ = b.allow(time.Now()); tell == nil {
			t.Fatal("no probe after one that said nothing")
		}
		tell(nil)
		if state, changed := b.change(); state != BreakerClosed || !changed {
			t.Errorf("%s, changed %v, after a probe that succeeded", state, changed)
		}
	})
}

// The ratio looks back over the window and no further.
func TestBreakerForgetsWhatIsOlderThanItsWindow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(BreakerConfig{ConsecutiveFailures: 1000, FailureRatio: 0.5, MinAttempts: 10, Window: time.Minute}, breakerRow{state: BreakerClosed})
		attempt := func(v verdict) {
			tell, _ := b.allow(time.Now())
			if tell == nil {
				t.Fatal("no leave")
			}
			tell(v)
		}
		for range 9 {
			attempt(errFailed)
		}
		time.Sleep(2 * time.Minute)
		for range 9 {
			attempt(errFailed)
		}
		if _, changed := b.change(); changed {
			t.Fatal("it opened over attempts of two windows")
		}
		attempt(errFailed)
		if state, _ := b.change(); state != BreakerOpen {
			t.Errorf("%s after ten failures within the window", state)
		}
	})
}
