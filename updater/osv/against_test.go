package osv

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/quay/claircore"
	"github.com/quay/claircore/libvuln/driver"
)

// remembers is an updater that keeps the fingerprint it was asked with.
type remembers struct {
	driver.Updater
	asked string
}

func asFingerprint(s string) driver.Fingerprint { return driver.Fingerprint(s) }

func (r *remembers) Fetch(_ context.Context, fp driver.Fingerprint) (io.ReadCloser, driver.Fingerprint, error) {
	r.asked = string(fp)
	return nil, "new", driver.Unchanged
}

// TestRealGoFeed: of a real feed, every row of claircore's parser is among this
// one's, with the same bounds for claircore's matchers; the name may be that of
// the group that the advisory is one of.
func TestRealGoFeed(t *testing.T) {
	t.Parallel()
	const name = "../../../shared/fixtures/feeds/before/osv/Go/all.zip"
	inner, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		if os.Getenv("TOCSIN_NEED_FIXTURES") != "" {
			t.Fatalf("the fixtures must be there: %v", err)
		}
		t.Skip("the fixtures are not here")
	}
	if err != nil {
		t.Fatal(err)
	}
	theirs := claircoreRows(t, wrapped(t, inner))
	ours, err := (&feed{ecosystem: ecosystemOf("osv/go")}).Parse(t.Context(), wrapped(t, inner))
	if err != nil {
		t.Fatal(err)
	}
	type key struct {
		name, pkg, fixed, severity string
		bounds                     claircore.Range
	}
	keyOf := func(v *claircore.Vulnerability, name string) key {
		k := key{name, v.Package.Name, v.FixedInVersion, v.NormalizedSeverity.String(), claircore.Range{}}
		if v.Range != nil {
			k.bounds = *v.Range
		}
		return k
	}
	have := make(map[key]bool)
	for _, v := range ours {
		have[keyOf(v, v.Name)] = true
		for _, a := range v.Aliases {
			have[keyOf(v, a.String())] = true
		}
	}
	missing := 0
	for _, v := range theirs {
		if k := keyOf(v, v.Name); !have[k] {
			if missing++; missing <= 5 {
				t.Errorf("claircore's row is not among ours: %+v", k)
			}
		}
	}
	if missing > 0 || len(theirs) < 1000 {
		t.Errorf("%d of claircore's %d rows are missing; there are %d of ours", missing, len(theirs), len(ours))
	}
}

// claircoreRows parses by claircore's own updater for Go, which its factory alone can
// make.
func claircoreRows(t *testing.T, contents io.ReadCloser) []*claircore.Vulnerability {
	t.Helper()
	set, err := listed(t, "Go\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range set.Updaters() {
		if f, ok := u.(*feed); ok && f.ecosystem.name == "Go" {
			vs, err := f.Updater.Parse(t.Context(), contents)
			if err != nil {
				t.Fatal(err)
			}
			return vs
		}
	}
	t.Fatal("no updater for Go")
	return nil
}

// listed is the set of updaters that a server's list of ecosystems makes.
func listed(t *testing.T, ecosystems string) (driver.UpdaterSet, error) {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, ecosystems) }))
	t.Cleanup(srv.Close)
	f := new(Factory)
	configure := func(v any) error { return json.Unmarshal([]byte(`{"url":"`+srv.URL+`/"}`), v) }
	if err := f.Configure(t.Context(), configure, srv.Client()); err != nil {
		return driver.UpdaterSet{}, err
	}
	return f.UpdaterSet(t.Context())
}

// TestFactory: the ecosystems of this package get its parser, others keep
// claircore's.
func TestFactory(t *testing.T) {
	t.Parallel()
	set, err := listed(t, "Go\nnpm\nPyPI\nMaven\nRubyGems\ncrates.io\n")
	if err != nil {
		t.Fatal(err)
	}
	ours := 0
	for _, u := range set.Updaters() {
		if _, ok := u.(*feed); ok {
			ours++
		}
	}
	if ours != 5 || len(set.Updaters()) != 6 {
		t.Errorf("%d of %d updaters have this package's parser", ours, len(set.Updaters()))
	}
}
