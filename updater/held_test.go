package updater

import (
	"errors"
	"slices"
	"testing"

	"tocsin.dev/tocsin/schemas"
)

// TestShrunkFeedIsHeld: an update that takes most of a feed away is not stored,
// announced once, and let through by a word; what comes back by itself needs
// none.
func TestShrunkFeedIsHeld(t *testing.T) {
	t.Parallel()
	m := newMirror(t)
	m.osv(t, 500, "Go")
	b := newBench(t, m.config("osv"))
	run := func(result Result, rows int64) UpdaterStatus {
		t.Helper()
		if err := b.run("osv"); err != nil {
			t.Fatal(err)
		}
		return b.want("osv/go", result, rows)
	}
	run(Updated, 500)
	m.osv(t, 260, "Go") // less than half is gone
	run(Updated, 260)
	m.osv(t, 5, "Go")
	for range 2 {
		if u := run(Held, 260); u.HeldRows == nil || *u.HeldRows != 5 || u.HeldSince == nil {
			t.Errorf("status is %+v", u)
		}
	}
	if want := []schemas.UpdateHeld{{Set: "osv", Updater: "osv/go", Rows: 5, Before: 260}}; !slices.Equal(b.held, want) {
		t.Errorf("announced %+v, want %+v", b.held, want)
	}
	if n := one[int](b, `SELECT count(*) FROM latest_vuln`); n != 260 {
		t.Errorf("%d rows are in reports", n)
	}
	m.osv(t, 270, "Go")
	if u := run(Updated, 270); u.HeldRows != nil {
		t.Errorf("still held: %+v", u)
	}
	if _, err := b.accept(t.Context(), "osv/go"); !errors.Is(err, ErrNothingHeld) {
		t.Errorf("accepting nothing: %v", err)
	}
	for _, name := range []string{"osv/go", "osv"} {
		m.osv(t, 6, "Go")
		run(Held, 270)
		if sets, err := b.accept(t.Context(), name); err != nil || !slices.Equal(sets, []string{"osv"}) {
			t.Errorf("accepting %s: %v, %v", name, sets, err)
		}
		if u := run(Updated, 6); u.HeldSince != nil {
			t.Errorf("still held: %+v", u)
		}
		m.osv(t, 270, "Go")
		run(Updated, 270)
	}
	if len(b.held) != 3 {
		t.Errorf("%d announcements, want 3", len(b.held))
	}
}

// TestMaxDrop: how much may go is configured, and 1 is all.
func TestMaxDrop(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		drop        float64
		now, before int
		held        bool
	}{{0.5, 49, 100, true}, {0.5, 50, 100, false}, {0.5, 1, 99, false}, {0.1, 899, 1000, true}, {0.1, 900, 1000, false}, {1, 1, 1000, false}} {
		d := drive{runner: &runner{maxDrop: c.drop}}
		if got := d.shrunk(c.now, int64(c.before)); got != c.held {
			t.Errorf("%d of %d rows at %v: held %t", c.now, c.before, c.drop, got)
		}
	}
}
