package updater

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/quay/claircore/libvuln/driver"
	"github.com/quay/claircore/rhel/vex"
)

// vexOverlap is how much of what was read already the next run reads again:
// documents are not always listed in the order of their dates.
const vexOverlap = 24 * time.Hour

// vexFactory makes claircore's updater for Red Hat's VEX count from what the
// server has published instead of from the local clock. claircore skips what is
// dated before its last run, so that a mirror which publishes late, or a clock
// that is ahead, loses documents for ever.
type vexFactory struct{ vex.Factory }

// UpdaterSet implements [driver.UpdaterSetFactory].
func (f *vexFactory) UpdaterSet(ctx context.Context) (driver.UpdaterSet, error) {
	theirs, err := f.Factory.UpdaterSet(ctx)
	if err != nil {
		return theirs, err
	}
	set := driver.NewUpdaterSet()
	for _, u := range theirs.Updaters() {
		inner, ok := u.(*vex.Updater)
		if !ok {
			return set, fmt.Errorf("updater %s is a %T, not claircore's for VEX", u.Name(), u)
		}
		if err := set.Add(&vexUpdater{Updater: inner}); err != nil {
			return set, err
		}
	}
	return set, nil
}

type vexUpdater struct {
	*vex.Updater
	seen published
}

var (
	_ driver.DeltaUpdater = (*vexUpdater)(nil)
	_ driver.Configurable = (*vexUpdater)(nil)
)

// Configure implements [driver.Configurable].
func (u *vexUpdater) Configure(ctx context.Context, f driver.ConfigUnmarshaler, c *http.Client) error {
	watched := *c
	watched.Transport = &watcher{next: c.Transport, seen: &u.seen}
	return u.Updater.Configure(ctx, f, &watched)
}

// Fetch implements [driver.Fetcher]. The time in the fingerprint is that of the
// newest document that the server lists.
func (u *vexUpdater) Fetch(ctx context.Context, last driver.Fingerprint) (io.ReadCloser, driver.Fingerprint, error) {
	u.seen.reset()
	was, ok := vexTime(last)
	if ok {
		last = withVEXTime(last, was.Add(-vexOverlap))
	}
	contents, fp, err := u.Updater.Fetch(ctx, last)
	if err != nil {
		return contents, fp, err
	}
	switch newest, archive := u.seen.times(); {
	case !newest.IsZero():
		fp = withVEXTime(fp, newest)
	case ok:
		fp = withVEXTime(fp, was)
	case !archive.IsZero():
		fp = withVEXTime(fp, archive)
	}
	return contents, fp, err
}

// A fingerprint of claircore's is two entity tags, a time and a version.
const vexFields, vexTimeField = 4, 2

func vexTime(fp driver.Fingerprint) (time.Time, bool) {
	f := strings.Split(string(fp), `\`)
	if len(f) != vexFields {
		return time.Time{}, false
	}
	t, err := time.Parse(time.RFC3339, f[vexTimeField])
	return t, err == nil
}

func withVEXTime(fp driver.Fingerprint, t time.Time) driver.Fingerprint {
	f := strings.Split(string(fp), `\`)
	if len(f) != vexFields {
		return fp
	}
	f[vexTimeField] = t.UTC().Format(time.RFC3339)
	return driver.Fingerprint(strings.Join(f, `\`))
}

// published is what a server was seen to publish: the newest date in its lists,
// and when its archive was made.
type published struct {
	mu              sync.Mutex
	newest, archive time.Time
}

func (p *published) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.newest, p.archive = time.Time{}, time.Time{}
}

func (p *published) times() (newest, archive time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.newest, p.archive
}

// listed takes a line of a list: a path and a date.
func (p *published) listed(line []byte) {
	rec, err := csv.NewReader(bytes.NewReader(line)).Read()
	if err != nil || len(rec) != 2 {
		return // claircore's parser reports it
	}
	if t, err := time.Parse(time.RFC3339, rec[1]); err == nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		if t.After(p.newest) {
			p.newest = t
		}
	}
}

// A watcher notes the dates in the lists that pass through it.
type watcher struct {
	next http.RoundTripper
	seen *published
}

// RoundTrip implements [http.RoundTripper].
func (w *watcher) RoundTrip(req *http.Request) (*http.Response, error) {
	next := w.next
	if next == nil {
		next = http.DefaultTransport
	}
	res, err := next.RoundTrip(req)
	if err != nil || res.StatusCode != http.StatusOK {
		return res, err
	}
	switch name := path.Base(req.URL.Path); {
	case req.Method == http.MethodHead:
		if at, err := time.Parse(http.TimeFormat, res.Header.Get("Last-Modified")); err == nil {
			w.seen.mu.Lock()
			w.seen.archive = at
			w.seen.mu.Unlock()
		}
	case name == "changes.csv" || name == "deletions.csv":
		res.Body = &lines{ReadCloser: res.Body, take: w.seen.listed}
	}
	return res, nil
}

// lines hands on every line that is read through it.
type lines struct {
	io.ReadCloser
	take func([]byte)
	rest []byte
}

// maxListed is the longest line of a list that is looked at.
const maxListed = 4 << 10

// Read implements [io.Reader].
func (l *lines) Read(p []byte) (int, error) {
	n, err := l.ReadCloser.Read(p)
	l.rest = append(l.rest, p[:n]...)
	for {
		line, rest, whole := bytes.Cut(l.rest, []byte("\n"))
		if !whole {
			break
		}
		l.take(line)
		l.rest = rest
	}
	if len(l.rest) > maxListed {
		l.rest = nil
	}
	if err != nil && len(l.rest) > 0 {
		l.take(l.rest)
		l.rest = nil
	}
	return n, err
}
