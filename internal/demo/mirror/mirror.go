// Package mirror is a small vulnerability feed for demonstrations and tests: a
// mirror of OSV's layout with the Go ecosystem alone, in two states. In the
// second, two advisories for a module of the demo image are new, one that was
// known has got a severity, and one names a module that the image has in a
// version which is not affected.
//
// Ids, aliases, ranges, fixes and scores are those of the real advisories; the
// descriptions are our own. It answers conditional requests as the real servers
// do, with other validators for each state. It is no data source.
package mirror

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"embed"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"sync/atomic"
	"time"
)

//go:embed feed
var feed embed.FS

// A state is what the mirror serves until it advances.
type state struct {
	files    map[string][]byte
	modified time.Time
}

// A Mirror serves the feed. The zero value is not ready; see [New]. Its methods
// may be called concurrently.
type Mirror struct {
	states  [2]state
	current atomic.Int32
}

// New returns a mirror in its first state.
func New() (*Mirror, error) {
	m := new(Mirror)
	for i, s := range []struct {
		dir      string
		modified time.Time
	}{
		{"before", time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)},
		{"after", time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)},
	} {
		all, err := archive(path.Join("feed", s.dir))
		if err != nil {
			return nil, fmt.Errorf("demo feed %s: %w", s.dir, err)
		}
		m.states[i] = state{modified: s.modified, files: map[string][]byte{
			"/ecosystems.txt": []byte("Go\n"),
			"/Go/all.zip":     all,
		}}
	}
	return m, nil
}

// archive returns the advisories of one state as OSV packs them.
func archive(dir string) ([]byte, error) {
	entries, err := fs.ReadDir(feed, dir)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, e := range entries {
		data, err := feed.ReadFile(path.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		w, err := z.Create(e.Name())
		if err != nil {
			return nil, err
		}
		if _, err := w.Write(data); err != nil {
			return nil, err
		}
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Advance puts the mirror into its second state, where it stays.
func (m *Mirror) Advance() { m.current.Store(1) }

// ServeHTTP serves ecosystems.txt and Go/all.zip at the root.
func (m *Mirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s := m.states[m.current.Load()]
	data, ok := s.files[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("ETag", fmt.Sprintf(`"%x"`, sha256.Sum256(data)))
	http.ServeContent(w, r, path.Base(r.URL.Path), s.modified, bytes.NewReader(data))
}
