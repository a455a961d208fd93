package updater

import (
	"context"
	"net/http"
	"testing"
	"time"
)

// TestStaleAnnounced fails a feed for longer than it may: one event says so,
// until it has run well again.
func TestStaleAnnounced(t *testing.T) {
	t.Parallel()
	m := newMirror(t)
	m.osv(t, 1, "Go")
	cfg := m.config("osv")
	cfg.StaleAfter = time.Nanosecond
	b := newBench(t, cfg)
	stale := func(step string, want int) {
		t.Helper()
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.stale) != want {
			t.Fatalf("%s: %d events say that data are stale, want %d: %+v", step, len(b.stale), want, b.stale)
		}
	}
	if err := b.run("osv"); err != nil {
		t.Fatal(err)
	}
	stale("it runs", 0)
	down := func() {
		m.hook("/Go/all.zip", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "down", http.StatusServiceUnavailable) })
	}
	down()
	b.run("osv")
	b.run("osv")
	stale("it fails twice", 1)
	if s := b.stale[0]; s.Set != "osv" || s.Updater != "osv/go" || s.Reason == "" || s.LastSuccess == nil || s.FailingSince.IsZero() {
		t.Errorf("the event says %+v", s)
	}
	m.hook("/Go/all.zip", nil)
	m.osv(t, 2, "Go")
	if err := b.run("osv"); err != nil {
		t.Fatal(err)
	}
	stale("it runs again", 1)
	down()
	b.run("osv")
	stale("it fails again", 2)
}

// TestStaleWithoutDependents: a feed that no image depends on is not announced
// as stale, until one does; one of which nobody can tell is.
func TestStaleWithoutDependents(t *testing.T) {
	t.Parallel()
	m := newMirror(t)
	m.osv(t, 1, "Go")
	cfg := m.config("osv")
	cfg.StaleAfter = time.Nanosecond
	b := newBench(t, cfg)
	images, known, asked := 0, true, []string(nil)
	b.record.dependents = func(_ context.Context, updaters ...string) (int, bool, error) {
		asked = updaters
		return images, known, nil
	}
	if err := b.run("osv"); err != nil {
		t.Fatal(err)
	}
	m.hook("/Go/all.zip", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "down", http.StatusServiceUnavailable) })
	b.run("osv")
	if len(b.stale) != 0 || len(asked) != 1 || asked[0] != "osv/go" {
		t.Fatalf("no image depends on it, and the events are %+v (asked for %q)", b.stale, asked)
	}
	images = 3
	b.run("osv")
	b.run("osv")
	if len(b.stale) != 1 || b.stale[0].Images == nil || *b.stale[0].Images != 3 {
		t.Fatalf("three images depend on it, and the events are %+v", b.stale)
	}
	m.hook("/Go/all.zip", nil)
	m.osv(t, 2, "Go")
	if err := b.run("osv"); err != nil {
		t.Fatal(err)
	}
	known = false
	// The whole set fails: all of its updaters are asked for.
	m.hook("/ecosystems.txt", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "down", http.StatusServiceUnavailable) })
	b.run("osv")
	if len(b.stale) < 2 || b.stale[len(b.stale)-1].Images != nil {
		t.Fatalf("nobody knows who depends on it, and the events are %+v", b.stale)
	}
	if len(asked) != 1 || asked[0] != "osv/go" {
		t.Errorf("asked for %q", asked)
	}
}

// TestIsStale is when data count as stale.
func TestIsStale(t *testing.T) {
	t.Parallel()
	now := time.Now()
	ago := func(d time.Duration) *time.Time { at := now.Add(-d); return &at }
	for name, c := range map[string]struct {
		f      failing
		lastOK *time.Time
		want   bool
	}{
		"it does not fail":                       {failing{}, ago(100 * time.Hour), false},
		"it fails since yesterday":               {failing{since: ago(24 * time.Hour)}, ago(25 * time.Hour), false},
		"its last success is too long ago":       {failing{since: ago(time.Hour)}, ago(73 * time.Hour), true},
		"it never ran well, and fails for long":  {failing{since: ago(73 * time.Hour)}, nil, true},
		"it never ran well, and fails since now": {failing{since: &now}, nil, false},
		"that was announced":                     {failing{since: ago(99 * time.Hour), stale: ago(time.Hour)}, nil, false},
	} {
		if got := c.f.isStale(c.lastOK, now, 72*time.Hour); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
