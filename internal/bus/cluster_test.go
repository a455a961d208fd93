package bus_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"tocsin.dev/tocsin/internal/bus"
	"tocsin.dev/tocsin/internal/bus/bustest"
)

// TestCheckNoticesALostQuorum takes two servers of a cluster of three away: the
// third one still takes connections and answers what it knows.
func TestCheckNoticesALostQuorum(t *testing.T) {
	t.Parallel()
	cluster := bustest.NewCluster(t, 3)
	b, err := bus.Connect(t.Context(), cluster.URL(0), bus.Options{Streams: bus.StreamOptions{Replicas: 3}, ConnectTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	check := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		return b.Check(ctx)
	}
	until(t, "all three there", func() bool { return check() == nil })
	cluster.Stop(1)
	until(t, "two of three there", func() bool { return check() == nil })
	cluster.Stop(2)
	if err := check(); err == nil {
		t.Fatal("one server of three is said to take writes")
	} else if !strings.Contains(err.Error(), "NATS: ") || !strings.Contains(err.Error(), "quorum") {
		t.Errorf("one server of three: %v", err)
	}
	cluster.Start(1)
	until(t, "two of three there again", func() bool { return check() == nil })
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for begin := time.Now(); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Since(begin) > time.Minute {
			t.Fatalf("not in a minute: %s", what)
		}
	}
}

func TestCheckDeclaresWhatTheServerLost(t *testing.T) {
	t.Parallel()
	srv := bustest.NewServer(t)
	b := srv.Connect()
	if err := b.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	srv.Empty()
	until(t, "the emptied server", func() bool { return b.Check(t.Context()) == nil })
	if err := b.Publish(t.Context(), bus.SubjectManifests, "", []byte("x")); err != nil {
		t.Fatal(err)
	}
}
