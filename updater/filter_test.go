package updater

import (
	"strings"
	"testing"
)

// Only the updaters that updaters.filter lets through run.
func TestFilterOfUpdaters(t *testing.T) {
	t.Parallel()
	m := newMirror(t)
	m.osv(t, 1, "Go", "npm")
	m.alpine("1", "v3.3", "v3.4")
	cfg := m.config("osv", "alpine")
	cfg.Filter = `^osv/npm$|v3\.4`
	b := newBench(t, cfg)
	for _, set := range []string{"osv", "alpine"} {
		if err := b.run(set); err != nil {
			t.Fatal(err)
		}
	}
	b.want("osv/npm", Updated, 1)
	b.want("alpine-main-v3.4-updater", Updated, 1)
	if n := one[int](b, `SELECT count(*) FROM update_operation`); n != 2 {
		t.Errorf("%d updaters ran, want the two of the filter", n)
	}
	cfg.Filter = "("
	if _, err := New(Options{Config: cfg}); err == nil || !strings.Contains(err.Error(), "updaters.filter") {
		t.Errorf("a filter that is none: %v", err)
	}
}
