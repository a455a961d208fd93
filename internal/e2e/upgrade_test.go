package e2e

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"tocsin.dev/tocsin/internal/bus/bustest"
	"tocsin.dev/tocsin/internal/postgres/postgrestest"
	"tocsin.dev/tocsin/schemas"
)

var oldBinary = flag.String("e2e.old", "", "program of an earlier version, for the upgrade test; without it the test is left out")

// load publishes an image every now and then until it is stopped, and remembers
// which publications were acknowledged.
type load struct {
	t    *testing.T
	to   *server
	img  image
	stop context.CancelFunc
	done chan struct{}

	mu        sync.Mutex
	published map[string]bool
}

func newLoad(t *testing.T, to *server, img image, every time.Duration) *load {
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{t: t, to: to, img: img, stop: cancel, done: make(chan struct{}), published: map[string]bool{}}
	go func() {
		defer close(l.done)
		for ctx.Err() == nil {
			l.publish()
			select {
			case <-ctx.Done():
			case <-time.After(every):
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-l.done })
	return l
}

// publish publishes the image under a digest and a name of its own.
func (l *load) publish() {
	var digest [32]byte
	rand.Read(digest[:])
	img := l.img
	img.Digest = "sha256:" + hex.EncodeToString(digest[:])
	img.Name = "upgrade.example/" + hex.EncodeToString(digest[:6]) + ":1"
	if err := l.to.tryPublish("tocsin.manifests", img.job(l.t)); err != nil {
		l.t.Logf("publish: %v", err) // not acknowledged, so not promised
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.published[img.Digest] = true
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.published)
}

// more waits until n more images have been published.
func (l *load) more(n int) {
	l.t.Helper()
	want := l.count() + n
	eventually(l.t, 2*time.Minute, "load", func() (bool, string) { return l.count() >= want, fmt.Sprint(l.count(), " published") })
}

// TestRollingUpgrade replaces two processes of an earlier version by this one, one
// after the other, and goes back in the same way, on one database and one NATS
// under load. Every image whose publication was acknowledged is indexed and told
// once, a feed that changes is told by whichever version sees it, and nothing fails.
func TestRollingUpgrade(t *testing.T) {
	if *oldBinary == "" {
		t.Skip("`make upgrade-test` runs this with an earlier version")
	}
	t.Parallel()
	current, err := buildBinary()
	if err != nil {
		t.Fatal(err)
	}
	feed, feeds, img := serveDemo(t)
	key := make([]byte, 32)
	rand.Read(key)
	database := postgrestest.Empty(t)
	shared := fmt.Sprintf("database: {url: %q}\nnats: {url: %q}\nsecrets: {keys: [%q]}\nupdaters:\n  sets: [osv]\n  config: {osv: {url: \"%s/\"}}\n  schedules: {default: \"@every 24h\"}\n",
		database.Config().ConnString(), bustest.NewServer(t).URL(), base64.StdEncoding.EncodeToString(key), feeds.URL)
	a, b := newServerOn(t, shared), newServerOn(t, shared)
	replace := func(s *server, by, what string) {
		t.Helper()
		s.stop()
		s.bin = by
		s.start()
		s.lend(a)
		t.Log(what)
	}
	for _, s := range []*server{a, b} {
		s.bin = *oldBinary
	}
	a.start()
	b.start()
	b.lend(a)
	hook := newReceiver(t)
	a.subscribe(hook, "upgrade")
	l := newLoad(t, a, img, 150*time.Millisecond)
	updated := func(s *server, set string) {
		t.Helper()
		s.call("POST", "/api/v1/updates", map[string]string{"set": set}, nil)
	}
	l.more(20)
	updated(b, "osv")
	replace(a, current, "this version beside the earlier one")
	l.more(40)
	replace(b, current, "this version alone")
	feed.Advance()
	updated(a, "osv")
	l.more(40)
	replace(a, *oldBinary, "the earlier version back, beside this one")
	l.more(40)
	replace(b, *oldBinary, "the earlier version alone")
	l.more(20)
	l.stop()
	<-l.done
	a.quiet(hook)

	missing, failed := 0, 0
	indexed, again := map[string]map[string]bool{}, map[string]map[string]bool{}
	for _, e := range hook.all() {
		switch e.Type {
		case schemas.TypeManifestIndexed:
			var d schemas.ManifestIndexed
			if err := json.Unmarshal(e.Data, &d); err != nil {
				t.Fatal(err)
			}
			told := indexed
			if d.Reindexed { // by a version whose scanners are others
				told = again
			}
			if told[e.Subject] == nil {
				told[e.Subject] = map[string]bool{}
			}
			told[e.Subject][e.ID] = true
		case schemas.TypeManifestIndexFailed:
			failed++
			t.Errorf("failed: %s", e.Data)
		}
	}
	for digest := range l.published {
		if n := len(indexed[digest]); n != 1 {
			missing++
			t.Errorf("%s has %d indexed events, want 1", digest, n)
		}
		// Going back does not index again what newer scanners have seen.
		if n := len(again[digest]); n > 1 {
			t.Errorf("%s was indexed again %d times by one other version", digest, n)
		}
	}
	changed := map[string]bool{}
	for _, e := range hook.all() {
		var d schemas.VulnerabilitiesChanged
		if e.Type == schemas.TypeVulnerabilitiesChanged && json.Unmarshal(e.Data, &d) == nil && !d.Update.FirstLoad {
			changed[e.Subject] = true
		}
	}
	if len(changed) < 20 {
		t.Errorf("%d images were told of the feed's change", len(changed))
	}
	var dead, jobs int
	if err := database.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM tocsin.delivery WHERE state = 'dead'), (SELECT count(*) FROM tocsin.job WHERE state = 'failed')`).Scan(&dead, &jobs); err != nil {
		t.Fatal(err)
	}
	if dead > 0 || jobs > 0 {
		t.Errorf("%d dead letters and %d failed jobs", dead, jobs)
	}
	t.Logf("%d images, %d not told once, %d indexed again by the new version, %d failed, %d told of the change, %d deliveries", len(l.published), missing, len(again), failed, len(changed), len(hook.all()))
}

// lend gives this server's data directory the API token of another's, since there
// is one first token a database.
func (s *server) lend(of *server) {
	if s == of {
		return
	}
	if err := os.WriteFile(filepath.Join(s.dir, "data", "token"), []byte(of.token()), 0o600); err != nil {
		s.t.Fatal(err)
	}
}
