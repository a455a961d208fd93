package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// feedState is one state of the mirrored feeds: a folder and the moment that
// the server says its files were last modified.
type feedState struct {
	name     string
	dir      string
	modified time.Time
}

// feedServer serves the feeds the way their upstreams do: with ETag and
// Last-Modified, both different in each state, with ranges and HEAD.
type feedServer struct {
	state atomic.Pointer[feedState]
	osv   *httptest.Server // OSV asks for /ecosystems.txt at the host's root
	rest  *httptest.Server
}

func newFeedServer(t *testing.T, first feedState) *feedServer {
	t.Helper()
	f := new(feedServer)
	f.state.Store(&first)
	f.osv = httptest.NewServer(f.handler("osv"))
	f.rest = httptest.NewServer(f.handler(""))
	t.Cleanup(f.osv.Close)
	t.Cleanup(f.rest.Close)
	return f
}

func (f *feedServer) advance(next feedState) { f.state.Store(&next) }

func (f *feedServer) handler(under string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := f.state.Load()
		rel := filepath.FromSlash(strings.TrimPrefix(r.URL.Path, "/"))
		root, err := os.OpenRoot(filepath.Join(s.dir, under))
		if err != nil {
			http.NotFound(w, r)
			return
		}
		defer root.Close()
		if rel == "" {
			rel = "."
		}
		info, err := root.Stat(rel)
		if err == nil && info.IsDir() {
			rel = filepath.Join(rel, "index.html")
		}
		file, err := root.Open(rel)
		if err != nil {
			http.NotFound(w, r)
			return
		}
		defer file.Close()
		w.Header().Set("ETag", fmt.Sprintf("%q", s.name+"-"+filepath.ToSlash(rel)))
		http.ServeContent(w, r, filepath.Base(rel), s.modified, file)
	})
}

// updaterConfig is the updaters' part of a configuration file that points every
// set of the fixtures at f.
func (f *feedServer) updaterConfig() string {
	return fmt.Sprintf(`updaters:
  sets: [osv, debian, alpine]
  config:
    osv: {url: "%[1]s/"}
    debian: {mirror_url: "%[2]s/debian/", json_url: "%[2]s/debian/tracker/data/json"}
    alpine: {url: "%[2]s/alpine/"}
`, f.osv.URL, f.rest.URL)
}
