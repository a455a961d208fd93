package updater

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/quay/claircore/datastore/postgres"
	"github.com/quay/claircore/libvuln/driver"
)

func TestUpdatedThenUnchanged(t *testing.T) {
	t.Parallel()
	m := newMirror(t)
	m.osv(t, 3, "Go", "npm")
	m.alpine("1", "v3.3", "v3.4")
	m.debian(t)
	m.kev(t, "CVE-2026-0001", "CVE-2026-0002")
	m.epss(t, map[string]float64{"CVE-2026-0001": 0.25, "CVE-2026-0002": 0.5, "CVE-2026-0003": 0.75})
	b := newBench(t, m.config("osv", "alpine", "debian", "kev", "epss"))

	for _, round := range []Result{Updated, Unchanged} {
		for _, set := range []string{"osv", "alpine", "debian", "kev", "epss"} {
			if err := b.run(set); err != nil {
				t.Fatalf("%s: %v", set, err)
			}
			if st := b.set(set); st.Result != round && set != "alpine" || st.Running || st.LastSuccess == nil {
				t.Errorf("%s: %+v, want %s", set, st, round)
			}
		}
		b.want("osv/go", round, 3)
		b.want("alpine-main-v3.3-updater", round, 1)
		b.want("alpine-main-v3.4-updater", round, 1)
		b.want("debian/updater", round, 1)
		b.want("clair.kev", round, 2)
		u := b.want("clair.epss", round, 3)
		if !u.Enrichment || u.FingerprintChanged != (round == Updated) || u.Stored == nil {
			t.Errorf("clair.epss is %+v after %s", u, round)
		}
	}
	// osv/go, osv/npm, two of alpine, debian, kev, epss.
	if n := one[int](b, `SELECT count(*) FROM update_operation`); n != 7 || b.woken() != 7 {
		t.Errorf("%d update operations and %d wakes, want 7 of each", n, b.woken())
	}

	// A change is seen by exactly the updater that it is for.
	m.put("/Go/all.zip", zipped(t, advisories(4)))
	m.kev(t, "CVE-2026-0001")
	if err := errors.Join(b.run("osv"), b.run("kev")); err != nil {
		t.Fatal(err)
	}
	u := b.want("osv/go", Updated, 4)
	b.want("osv/npm", Unchanged, 3)
	b.want("clair.kev", Updated, 1)
	if ref := one[[16]byte](b, `SELECT ref FROM update_operation WHERE updater = 'osv/go' ORDER BY id DESC LIMIT 1`); ref != u.Ref {
		t.Errorf("status says operation %v, the newest is %v", u.Ref, ref)
	}
}

// TestEnrichmentsReadByClaircore: what is stored here is what claircore reads.
func TestEnrichmentsReadByClaircore(t *testing.T) {
	t.Parallel()
	m := newMirror(t)
	m.kev(t, "CVE-2026-0001", "CVE-2026-0002", "CVE-2026-0001")
	b := newBench(t, m.config("kev"))
	if err := b.run("kev"); err != nil {
		t.Fatal(err)
	}
	got, err := postgres.NewMatcherStore(b.pool).GetEnrichment(t.Context(), "clair.kev", []string{"CVE-2026-0002"})
	if err != nil || len(got) != 1 || !strings.Contains(string(got[0].Enrichment), "CVE-2026-0002") {
		t.Errorf("claircore reads %v (%v)", got, err)
	}
	// The same record is one row, whoever stores it first.
	record := func() []driver.EnrichmentRecord {
		return []driver.EnrichmentRecord{{Tags: []string{"b", "a"}, Enrichment: []byte(`{"b": 1,  "a": 2}`)}}
	}
	before := one[int](b, `SELECT count(*) FROM enrichment`)
	if _, err := postgres.NewMatcherStore(b.pool).UpdateEnrichments(t.Context(), "x", "1", record()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.database.enrichments(t.Context(), "x", "2", record()); err != nil {
		t.Fatal(err)
	}
	if n := one[int](b, `SELECT count(*) FROM enrichment`) - before; n != 1 {
		t.Errorf("one record stored by claircore and by us is %d rows", n)
	}
}

// TestNotModifiedIndex: a server that answers 304 to a conditional request for
// the ecosystems must not end OSV's updates, which it does for as long as one
// claircore factory lives.
func TestNotModifiedIndex(t *testing.T) {
	t.Parallel()
	m := newMirror(t)
	m.osv(t, 1, "Go")
	b := newBench(t, m.config("osv"))
	for n := 1; n <= 3; n++ {
		m.put("/Go/all.zip", zipped(t, advisories(n)))
		if err := b.run("osv"); err != nil {
			t.Fatal(err)
		}
		b.want("osv/go", Updated, int64(n))
	}
	// A server that says so without having been asked is an error, not silence.
	m.hook("/ecosystems.txt", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) })
	if err := b.run("osv"); !errors.Is(err, ErrUnexpectedStatus) {
		t.Errorf("a 304 out of the blue gives %v", err)
	}
}

// TestEndlessDiscovery: claircore's Alpine discovery goes on for ever on any
// answer but 200 and 404, and on a server that says yes to everything.
func TestEndlessDiscovery(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusOK, http.StatusForbidden, http.StatusServiceUnavailable, http.StatusTooManyRequests, http.StatusNoContent} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			m := newMirror(t)
			m.alpine("1", "v3.3")
			b := newBench(t, m.config("alpine"))
			if err := b.run("alpine"); err != nil {
				t.Fatal(err)
			}
			m.put("/alpine/last-update", []byte("2"))
			handler := m.Config.Handler
			m.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodHead {
					w.WriteHeader(status)
					return
				}
				handler.ServeHTTP(w, r)
			})
			err := b.run("alpine")
			if !errors.Is(err, ErrUnexpectedStatus) && !errors.Is(err, ErrTooManyRequests) {
				t.Fatalf("a server that answers %d to every HEAD gives %v", status, err)
			}
			if st := b.set("alpine"); st.Result != Failed || !strings.Contains(st.Error, "HEAD") && !strings.Contains(st.Error, "v3.") {
				t.Errorf("status %s: %q", st.Result, st.Error)
			}
			b.want("alpine-main-v3.3-updater", Updated, 1)
		})
	}
}

// TestPartialDiscovery: claircore's Debian discovery goes on without a release
// that it could not ask about; an update without it would withdraw every
// advisory of the release.
func TestPartialDiscovery(t *testing.T) {
	t.Parallel()
	m := newMirror(t)
	m.debian(t)
	b := newBench(t, m.config("debian"))
	m.hook("/debian/dists/bookworm/Release", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "come back later", http.StatusServiceUnavailable)
	})
	if err := b.run("debian"); !errors.Is(err, ErrUnexpectedStatus) || !strings.Contains(err.Error(), "bookworm/Release") {
		t.Errorf("a release that could not be asked about gives %v", err)
	}
	if n := m.count("GET /tracker.json"); n != 0 {
		t.Errorf("the tracker was fetched %d times all the same", n)
	}
	m.hook("/debian/dists/bookworm/Release", nil)
	if err := b.run("debian"); err != nil {
		t.Fatal(err)
	}
	b.want("debian/updater", Updated, 1)
}

// TestHostileFeeds: whatever one ecosystem's feed is, it fails alone, says why,
// and its previous data stay.
func TestHostileFeeds(t *testing.T) {
	t.Parallel()
	full := zipped(t, advisories(200))
	serve := func(b []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(b) }
	}
	malformed := advisories(3)
	malformed["GO-2026-0002.json"] = `{"id":"GO-2026-0002","affected":[{`
	feeds := []struct {
		name string
		feed http.HandlerFunc
		is   error
		says string
	}{
		{name: "HTML", feed: serve([]byte("<html>Not found, said nicely</html>")), is: ErrNotArchive, says: "<html>"},
		{name: "nothing", feed: serve(nil), is: ErrNotArchive, says: "0 bytes"},
		{name: "cut short inside the response", feed: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(full)))
			_, _ = w.Write(full[:len(full)/2])
		}, is: io.ErrUnexpectedEOF},
		{name: "cut short before the server", feed: serve(full[:len(full)/2]), says: "not a valid zip"},
		{name: "malformed advisory", feed: serve(zipped(t, malformed)), says: "parse: unexpected EOF"},
		{name: "malformed type", feed: serve(zipped(t, map[string]string{"a.json": `{"id": 7}`})), says: "parse: json"},
		{name: "suddenly empty", feed: serve(zipped(t, nil)), is: ErrSuddenlyEmpty, says: "200 rows"},
		{name: "bomb of one member", feed: serve(zipped(t, map[string]string{"a.json": strings.Repeat(" ", 3<<20)})), is: ErrTooLarge, says: "limits.entry"},
		{name: "bomb of many members", feed: serve(bomb(t)), is: ErrTooLarge, says: "limits.unpacked"},
		{name: "announces 10 GB", feed: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "10000000000")
			_, _ = w.Write(full)
		}, is: ErrTooLarge, says: "10000000000"},
		{name: "sends without end", feed: func(w http.ResponseWriter, r *http.Request) {
			for chunk := make([]byte, 64<<10); r.Context().Err() == nil; {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		}, is: ErrTooLarge, says: "limits.response"},
		{name: "never answers", feed: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, is: ErrStalled},
		{name: "stops sending", feed: func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write(full[:100])
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, is: ErrStalled},
		{name: "500", feed: func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "out of order", 500) }, says: "500"},
		{name: "redirects in a circle", feed: func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }, says: "redirects"},
		{name: "hangs up", feed: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, is: io.EOF},
	}
	m := newMirror(t)
	m.osv(t, 200, "Go", "npm")
	cfg := m.config("osv")
	cfg.Limits = Limits{Stall: time.Second, Response: 8 << 20, Entry: 2 << 20, Unpacked: 16 << 20}
	b := newBench(t, cfg)
	if err := b.run("osv"); err != nil {
		t.Fatal(err)
	}
	before := b.want("osv/go", Updated, 200)
	for i, f := range feeds {
		m.hook("/Go/all.zip", f.feed)
		m.put("/npm/all.zip", zipped(t, of("npm", advisories(200+i+1))))
		err := b.run("osv")
		if err == nil || f.is != nil && !errors.Is(err, f.is) || !strings.Contains(err.Error(), f.says) {
			t.Errorf("%s: the job says %v, want %v with %q", f.name, err, f.is, f.says)
		}
		u := b.want("osv/go", Failed, 200)
		if u.Ref != before.Ref || u.Failures != i+1 || u.Error == "" {
			t.Errorf("%s: status %+v, want the operation before and %d failures", f.name, u, i+1)
		}
		if n := one[int](b, `SELECT count(*) FROM latest_vuln WHERE updater = 'osv/go'`); n != 200 {
			t.Fatalf("%s: %d rows of the previous data are left", f.name, n)
		}
		b.want("osv/npm", Updated, 0+one[int64](b, `SELECT count(*) FROM latest_vuln WHERE updater = 'osv/npm'`))
	}
	if n := one[int](b, `SELECT count(*) FROM announced`); n != 1 {
		t.Errorf("%d announcements of one long failure, want 1", n)
	}
	m.hook("/Go/all.zip", nil)
	m.put("/Go/all.zip", zipped(t, advisories(201)))
	if err := b.run("osv"); err != nil {
		t.Fatal(err)
	}
	if u := b.want("osv/go", Updated, 201); u.Failures != 0 || u.FailingSince != nil {
		t.Errorf("after a success %+v", u)
	}
	m.hook("/Go/all.zip", feeds[0].feed)
	if err := b.run("osv"); err == nil {
		t.Fatal("the HTML page was taken")
	}
	if n := one[int](b, `SELECT count(*) FROM announced WHERE updater = 'osv/go'`); n != 2 {
		t.Errorf("%d announcements after a second failure, want 2", n)
	}
}

// bomb returns an archive whose members together are over the limit of the test.
func bomb(t testing.TB) []byte {
	files := make(map[string]string)
	for i := range 17 {
		files[fmt.Sprintf("%d.json", i)] = strings.Repeat(" ", 1<<20)
	}
	return zipped(t, files)
}

// TestSetsApart: a set that hangs, one that fails and one that panics do not
// hold up or harm a good one.
func TestSetsApart(t *testing.T) {
	t.Parallel()
	m := newMirror(t)
	m.osv(t, 3, "Go")
	hanging := make(chan struct{})
	m.hook("/alpine/last-update", func(_ http.ResponseWriter, r *http.Request) {
		close(hanging)
		<-r.Context().Done()
	})
	cfg := m.config("osv", "alpine", "panic")
	b := newBench(t, cfg, func(o *Options) {
		o.Known = append(Sets(), Set{Name: "panic", Updaters: []string{"panic"}, New: func(context.Context) (driver.UpdaterSetFactory, error) {
			panic("as some do")
		}})
	})
	alpine := make(chan error)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { alpine <- b.runContext(ctx, "alpine") }()
	<-hanging
	if err := b.run("panic"); err == nil || !strings.Contains(err.Error(), "as some do") {
		t.Errorf("a panic gives %v", err)
	}
	if err := b.run("osv"); err != nil {
		t.Fatal(err)
	}
	b.want("osv/go", Updated, 3)
	cancel()
	if err := <-alpine; !errors.Is(err, context.Canceled) {
		t.Errorf("a run that is stopped gives %v", err)
	}
	// It was not the feed's failure.
	if st := b.set("alpine"); st.Result != Running || one[int](b, `SELECT count(*) FROM announced WHERE set_name = 'alpine'`) != 0 {
		t.Errorf("a run that is stopped is %s", st.Result)
	}
}

// TestLimitsOfTime: an updater that takes too long fails alone, a set that takes
// too long fails with what was under way.
func TestLimitsOfTime(t *testing.T) {
	t.Parallel()
	m := newMirror(t)
	m.osv(t, 3, "Go", "npm")
	trickle := func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			_, _ = w.Write([]byte("PK"))
			_ = http.NewResponseController(w).Flush()
			select {
			case <-r.Context().Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	m.hook("/npm/all.zip", trickle)
	cfg := m.config("osv")
	cfg.Limits.Updater = time.Second
	b := newBench(t, cfg)
	if err := b.run("osv"); err == nil || !strings.Contains(err.Error(), "limits.updater") {
		t.Errorf("an updater that takes too long gives %v", err)
	}
	b.want("osv/go", Updated, 3)
	if u := b.want("osv/npm", Failed, 0); !strings.Contains(u.Error, "limits.updater") {
		t.Errorf("its status is %q", u.Error)
	}
	cfg.Limits.Updater, cfg.Limits.Set = time.Minute, time.Second
	b = newBench(t, cfg)
	if err := b.run("osv"); err == nil || !strings.Contains(err.Error(), "limits.set") {
		t.Errorf("a set that takes too long gives %v", err)
	}
	b.want("osv/go", Updated, 3)
	if u := b.want("osv/npm", Failed, 0); !strings.Contains(u.Error, "limits.set") || b.set("osv").Result != Failed {
		t.Errorf("its status is %q, and the set %s", u.Error, b.set("osv").Result)
	}
}

// TestVanished: an updater that its set no longer has is marked; its data stay.
func TestVanished(t *testing.T) {
	t.Parallel()
	m := newMirror(t)
	m.osv(t, 2, "Go", "npm")
	b := newBench(t, m.config("osv"))
	if err := b.run("osv"); err != nil {
		t.Fatal(err)
	}
	m.put("/ecosystems.txt", []byte("Go\n"))
	if err := b.run("osv"); err != nil {
		t.Fatal(err)
	}
	b.want("osv/npm", Gone, 2)
	b.want("osv/go", Unchanged, 2)
	m.put("/ecosystems.txt", []byte("Android\n"))
	if err := b.run("osv"); err == nil || !strings.Contains(err.Error(), "offers none") {
		t.Errorf("a server without a usable ecosystem gives %v", err)
	}
	b.want("osv/go", Unchanged, 2)
}
