package updater

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

const fixtures = "../../shared/fixtures/feeds"

// feeds serves one state of the real feeds, by its own validators: git keeps no
// file times.
func feeds(t *testing.T, dir string) (url string, advance func()) {
	var after atomic.Bool
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		state, at := "before", time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
		if after.Load() {
			state, at = "after", time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
		}
		name := filepath.Join(fixtures, state, dir, filepath.FromSlash(r.URL.Path))
		if info, err := os.Stat(name); err == nil && info.IsDir() {
			name = filepath.Join(name, "index.html")
		}
		f, err := os.Open(name)
		if err != nil {
			http.NotFound(w, r)
			return
		}
		defer f.Close()
		w.Header().Set("ETag", fmt.Sprintf("%q", state+r.URL.Path))
		http.ServeContent(w, r, name, at, f)
	}))
	t.Cleanup(srv.Close)
	return srv.URL + "/", func() { after.Store(true) }
}

// TestRealFeeds runs real feeds in two states.
func TestRealFeeds(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat(fixtures); err != nil {
		if os.Getenv("TOCSIN_NEED_FIXTURES") != "" {
			t.Fatalf("the fixtures must be there: %v", err)
		}
		t.Skip("the fixtures are not here")
	}
	osv, advanceOSV := feeds(t, "osv")
	alpine, advanceAlpine := feeds(t, "alpine")
	debian, advanceDebian := feeds(t, "debian")
	b := newBench(t, Config{Settings: Settings{
		"osv":    map[string]any{"url": osv},
		"alpine": map[string]any{"url": alpine},
		"debian": map[string]any{"mirror_url": debian, "json_url": debian + "tracker/data/json"},
	}})
	sets := []string{"osv", "alpine", "debian"}
	check := func(result Result) map[string]int64 {
		t.Helper()
		rows := make(map[string]int64)
		for _, set := range sets {
			if err := b.run(set); err != nil {
				t.Fatal(err)
			}
			for _, u := range b.set(set).Updaters {
				if u.Result != result && result != "" {
					t.Errorf("%s is %s, want %s", u.Updater, u.Result, result)
				}
				rows[u.Updater] = u.Rows
			}
		}
		return rows
	}
	before := check(Updated)
	check(Unchanged)
	advanceOSV()
	advanceAlpine()
	advanceDebian()
	after := check("")
	for updater, least := range map[string][2]int64{
		"osv/go": {2223, 2745}, "osv/crates.io": {801, 920}, "debian/updater": {423, 568}, "alpine-main-v3.8-updater": {1, 1},
	} {
		if before[updater] < least[0] || after[updater] < least[1] {
			t.Errorf("%s: %d rows before and %d after, want at least %v", updater, before[updater], after[updater], least)
		}
	}
	if len(after) <= len(before) {
		t.Errorf("%d updaters after, %d before: Alpine's new releases are missing", len(after), len(before))
	}
	t.Log("rows", after)
}
