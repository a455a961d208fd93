package access_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"tocsin.dev/tocsin/internal/access"
	"tocsin.dev/tocsin/internal/postgres/postgrestest"
)

// guess is a wrong token like no other.
func guess(n int) string {
	return access.Prefix + fmt.Sprintf("%06d", n) + strings.Repeat("A", 37)
}

type gate struct {
	t *testing.T
	*access.Gate
	now time.Time
}

func newGate(t *testing.T, s *access.Store) *gate {
	g := &gate{t: t, now: time.Unix(1_800_000_000, 0)}
	g.Gate = access.NewGate(s, func() time.Time { return g.now })
	return g
}

// count is how wrong tokens from an address are answered.
func (g *gate) count(addr string, tokens ...string) (unknown, throttled int) {
	g.t.Helper()
	for _, token := range tokens {
		switch _, err := g.Authenticate(g.t.Context(), addr, token); {
		case errors.Is(err, access.ErrUnknown):
			unknown++
		case errors.Is(err, access.ErrThrottled):
			throttled++
		default:
			g.t.Fatalf("a wrong token gave %v", err)
		}
	}
	return unknown, throttled
}

func guesses(from, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = guess(from + i)
	}
	return out
}

func TestGateBoundsFailuresAndNeverLocksOut(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := access.NewStore(postgrestest.New(t))
	_, secret, err := s.Create(ctx, "a", "", []access.Scope{access.Read}, nil)
	if err != nil {
		t.Fatal(err)
	}
	g := newGate(t, s)
	if u, th := g.count("192.0.2.1", guesses(0, 30)...); u != 20 || th != 10 {
		t.Errorf("30 guesses: %d unknown, %d throttled; want 20 and 10", u, th)
	}
	if p, err := g.Authenticate(ctx, "192.0.2.1", secret); err != nil || p.Name != "a" {
		t.Errorf("the right token from that address: %v", err)
	}
	if u, _ := g.count("192.0.2.2", guess(1)); u != 1 {
		t.Error("another address was throttled too")
	}
	g.now = g.now.Add(3 * time.Second)
	if u, th := g.count("192.0.2.1", guesses(100, 5)...); u != 3 || th != 2 {
		t.Errorf("three seconds later: %d unknown, %d throttled; want 3 and 2", u, th)
	}
	for i := range 5000 { // more addresses than are remembered
		if _, err := g.Authenticate(ctx, fmt.Sprint(i), "nonsense"); !errors.Is(err, access.ErrUnknown) {
			t.Fatal(err)
		}
	}
}

// A client that goes on with one wrong token is slowed down by itself: others at
// its address, with guesses or slips of their own, are not.
func TestGateCountsByToken(t *testing.T) {
	t.Parallel()
	g := newGate(t, access.NewStore(postgrestest.New(t)))
	same := make([]string, 50)
	for i := range same {
		same[i] = guess(0)
	}
	if u, th := g.count("192.0.2.1", same...); u != 4 || th != 46 {
		t.Errorf("one wrong token 50 times: %d unknown, %d throttled; want 4 and 46", u, th)
	}
	if u, th := g.count("192.0.2.1", guesses(1, 19)...); u != 19 || th != 0 {
		t.Errorf("19 others: %d unknown, %d throttled; want all looked up", u, th)
	}
}

// While an address is flooded with guesses that all wait for the database, a token
// that was right before is served at once.
func TestGateServesTheKnownDuringAFlood(t *testing.T) {
	t.Parallel()
	pool := postgrestest.New(t)
	s := access.NewStore(pool)
	tok, secret, err := s.Create(t.Context(), "a", "", []access.Scope{access.Read}, nil)
	if err != nil {
		t.Fatal(err)
	}
	g := newGate(t, s)
	if _, err := g.Authenticate(t.Context(), "192.0.2.1", secret); err != nil {
		t.Fatal(err)
	}
	g.count("192.0.2.1", guesses(0, 21)...)

	ctx, stop := context.WithCancel(t.Context())
	var flood sync.WaitGroup
	for i := range 100 {
		flood.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				_, _ = g.Authenticate(ctx, "192.0.2.1", guess(1000+100*n+i)) // refused, and what matters is that it is tried
			}
		})
	}
	for range 20 {
		if _, err := g.Authenticate(t.Context(), "192.0.2.1", secret); err != nil {
			t.Errorf("a right token during the flood: %v", err)
		}
	}
	stop()
	flood.Wait()

	// Known or not, a revoked token is refused at once, and then counts like any other.
	if err := s.Revoke(t.Context(), tok.ID); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := g.Authenticate(t.Context(), "192.0.2.1", secret); !errors.Is(err, access.ErrThrottled) {
			t.Errorf("revoked: %v", err)
		}
	}
}
