package access_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"tocsin.dev/tocsin/internal/access"
	"tocsin.dev/tocsin/internal/postgres/postgrestest"
)

func TestGateBoundsFailuresAndNeverLocksOut(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := access.NewStore(postgrestest.New(t))
	_, secret, err := s.Create(ctx, "a", "", []access.Scope{access.Read}, nil)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_800_000_000, 0)
	g := access.NewGate(s, func() time.Time { return now })
	wrong := secret[:len(secret)-2] + "AA"

	count := func(addr string, n int) (unknown, throttled int) {
		for range n {
			switch _, err := g.Authenticate(ctx, addr, wrong); {
			case errors.Is(err, access.ErrUnknown):
				unknown++
			case errors.Is(err, access.ErrThrottled):
				throttled++
			default:
				t.Fatalf("a wrong token gave %v", err)
			}
		}
		return unknown, throttled
	}
	if u, th := count("192.0.2.1", 30); u != 20 || th != 10 {
		t.Errorf("30 failures: %d unknown, %d throttled; want 20 and 10", u, th)
	}
	if p, err := g.Authenticate(ctx, "192.0.2.1", secret); err != nil || p.Name != "a" {
		t.Errorf("the right token from that address: %v", err)
	}
	if u, _ := count("192.0.2.2", 1); u != 1 {
		t.Error("another address was throttled too")
	}
	now = now.Add(3 * time.Second)
	if u, th := count("192.0.2.1", 5); u != 3 || th != 2 {
		t.Errorf("three seconds later: %d unknown, %d throttled; want 3 and 2", u, th)
	}
	for i := range 5000 { // more addresses than are remembered
		if _, err := g.Authenticate(ctx, fmt.Sprint(i), "nonsense"); !errors.Is(err, access.ErrUnknown) {
			t.Fatal(err)
		}
	}
}
