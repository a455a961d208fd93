package e2e

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	registry "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/schemas"
)

// advised is an advisory of the invented npm feed: versions 1.N.0 with N below
// fixed are affected.
type advised struct {
	id, cve, pkg string
	fixed, rank  int
}

var vectors = map[int]string{
	2: "CVSS:3.1/AV:L/AC:H/PR:H/UI:R/S:U/C:L/I:N/A:N", 3: "CVSS:3.1/AV:N/AC:L/PR:L/UI:N/S:U/C:L/I:N/A:N",
	4: "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N", 5: "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H",
}

// made is an image of a few npm packages, made by the test.
type made struct {
	dir, digest string
	packages    map[string]int // N of version 1.N.0
	names       []string       // all it ever had
}

// truth is what a plain reader knows: images, names and the feed.
type truth struct {
	*server
	feeds    *feedServer
	dir      string
	images   []*made
	all      []advised
	now      map[string]advised // the feed, by id
	means    map[string]*made
	filler   int
	versions int
}

// TestTruthThroughTheBinary plays random names and feeds against the real
// program and holds what its command line and its webhooks say against what the
// test itself has put there: report, affected, images, filters, superseded
// images, --current, and a feed that is held back and accepted.
func TestTruthThroughTheBinary(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(8, 1))
	w := &truth{dir: t.TempDir(), now: map[string]advised{}, means: map[string]*made{}, filler: 120}
	for i := range 12 {
		w.all = append(w.all, advised{
			id: fmt.Sprintf("GHSA-aaaa-bbbb-%04d", i), cve: fmt.Sprintf("CVE-2099-%04d", 1000+i), pkg: fmt.Sprintf("package%d", r.IntN(5)),
			fixed: 1 + r.IntN(4), rank: 2 + r.IntN(4),
		})
	}
	w.feeds = newFeedServer(t, w.write(t))
	w.server = newServer(t, fmt.Sprintf("updaters:\n  sets: [osv]\n  config: {osv: {url: \"%s/\"}}\n  schedules: {default: \"@every 24h\"}\n", w.feeds.osv.URL))
	w.start()
	w.feedsLoaded()
	for i := range 4 {
		m := &made{packages: map[string]int{}}
		for p := range 5 {
			if r.IntN(2) == 0 {
				m.packages[fmt.Sprintf("package%d", p)] = r.IntN(4)
			}
		}
		m.packages["package0"] = i
		m.dir, m.digest = writeNPM(t, m.packages, i)
		w.images = append(w.images, m)
		w.give(t, m, []string{"team-a/app:1", "team-b/app:1", "team-a/other:1", "team-b/other:1"}[i])
	}
	severe, own := newReceiver(t), newReceiver(t)
	secret := "whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("s"), 32))
	severe.secret, own.secret = secret, secret
	w.must(t, nil, "subscribe", severe.URL, "--severity", "high", "--secret", secret, "--retry", "1s,2s,4s,8s,16s")
	expected := map[*receiver]int{}
	for round := range 4 {
		if round == 2 {
			// What is there already, once, for those whom the filter lets through.
			w.must(t, nil, "subscribe", own.URL, "--image", "team-b/*", "--secret", secret, "--current", "--retry", "1s,2s,4s,8s,16s")
			n := 0
			for _, m := range w.images {
				if !w.superseded(m) && ofTeamB(m) {
					n++
				}
			}
			expected[own] = n
			w.heard(t, own, n)
			snapshots := own.count(func(e received) bool {
				return e.Type == schemas.TypeManifestIndexed && strings.Contains(string(e.Data), `"snapshot":true`)
			})
			if snapshots != n || n == 0 {
				t.Errorf("--current sent %d snapshots, want %d, and more than none", snapshots, n)
			}
		}
		for range 2 { // names move
			w.give(t, w.images[r.IntN(len(w.images))], []string{"team-a/app:1", "team-b/app:1", "team-b/other:1"}[r.IntN(3)])
		}
		before := w.findings()
		w.now = map[string]advised{}
		for _, a := range w.all {
			if r.IntN(2) == 0 {
				w.now[a.id] = a
			}
		}
		w.feeds.advance(w.write(t))
		w.must(t, nil, "updaters", "run", "osv", "--wait")
		w.told(t)
		w.expect(before, expected, severe, own, round >= 2)
		w.check(t)
		w.heard(t, severe, expected[severe])
		w.heard(t, own, expected[own])
	}
	w.shrink(t, expected, severe, own)
}

// shrink takes almost everything out of the feed: it is held back until that is
// accepted.
func (w *truth) shrink(t *testing.T, expected map[*receiver]int, severe, own *receiver) {
	before, feed := w.findings(), w.now
	w.now, w.filler = map[string]advised{}, 5
	w.feeds.advance(w.write(t))
	w.must(t, nil, "updaters", "run", "osv", "--wait")
	held := func() (n int) {
		var page v1.Page[json.RawMessage]
		w.call("GET", "/api/v1/events?type="+schemas.TypeUpdateHeld, nil, &page)
		return len(page.Items)
	}
	if n := held(); n != 1 {
		t.Errorf("%d events say that the update is held back, want 1", n)
	}
	w.now = feed
	w.check(t) // as before
	if code, why := w.run(nil, "updaters", "accept", "osv/nothing"); code == 0 {
		t.Errorf("an updater that nobody knows was accepted: %s", why)
	}
	w.must(t, nil, "updaters", "accept", "osv/npm", "--wait")
	w.now = map[string]advised{}
	w.told(t)
	w.expect(before, expected, severe, own, true)
	w.check(t)
	w.heard(t, severe, expected[severe])
	w.heard(t, own, expected[own])
	if n := held(); n != 1 {
		t.Errorf("%d events say that an update is held back, want 1 still", n)
	}
}

// expect counts the events that each hook is owed for what has changed since.
func (w *truth) expect(before map[*made]map[string]bool, expected map[*receiver]int, severe, own *receiver, subscribed bool) {
	byID := map[string]advised{}
	for _, a := range w.all {
		byID[a.id] = a
	}
	after := w.findings()
	for _, m := range w.images {
		added, removed := -1, -1
		for id := range after[m] {
			if !before[m][id] {
				added = max(added, byID[id].rank)
			}
		}
		for id := range before[m] {
			if !after[m][id] {
				removed = max(removed, byID[id].rank)
			}
		}
		rank := added
		if added < 0 {
			rank = removed
		}
		if rank < 0 || w.superseded(m) {
			continue
		}
		if rank >= 4 {
			expected[severe]++
		}
		if subscribed && ofTeamB(m) {
			expected[own]++
		}
	}
}

func ofTeamB(m *made) bool {
	return slices.ContainsFunc(m.names, func(n string) bool { return strings.HasPrefix(n, "team-b/") })
}

// superseded says whether names stood for the image, and none does.
func (w *truth) superseded(m *made) bool {
	return len(m.names) > 0 && !slices.Contains(slices.Collect(maps.Values(w.means)), m)
}

// findings are the ids of what is wrong with each image, by reading.
func (w *truth) findings() map[*made]map[string]bool {
	out := map[*made]map[string]bool{}
	for _, m := range w.images {
		out[m] = map[string]bool{}
		for _, a := range w.now {
			if n, ok := m.packages[a.pkg]; ok && n < a.fixed {
				out[m][a.id] = true
			}
		}
	}
	return out
}

// check holds report, images and affected against what is there.
func (w *truth) check(t *testing.T) {
	t.Helper()
	want := w.findings()
	var images []v1.Image
	w.must(t, &images, "images")
	listed := map[string]v1.Image{}
	for _, i := range images {
		listed[i.Digest] = i
	}
	for _, m := range w.images {
		ref := m.digest
		for name, of := range w.means {
			if of == m {
				ref = name
			}
		}
		var report v1.Report
		w.must(t, &report, "report", ref)
		got := map[string]bool{}
		for _, f := range report.Vulnerabilities {
			got[f.ID] = true
		}
		if !maps.Equal(got, want[m]) || len(report.Vulnerabilities) != len(got) {
			t.Errorf("report of %s %v says %v, want %v", ref, m.packages, got, want[m])
		}
		i := listed[m.digest]
		if v := i.Vulnerabilities; v == nil || v.Unknown+v.Negligible+v.Low+v.Medium+v.High+v.Critical != len(want[m]) {
			t.Errorf("the list counts %+v for %s, want %d", v, m.names, len(want[m]))
		}
		if got := []bool{i.Superseded, report.Manifest.Superseded}; got[0] != w.superseded(m) || got[1] != w.superseded(m) {
			t.Errorf("list and report say that %s is superseded: %v, want %t", m.names, got, w.superseded(m))
		}
	}
	for _, a := range w.all {
		var affected []v1.AffectedImage
		code, why := w.run(&affected, "affected", a.cve)
		if _, there := w.now[a.id]; !there {
			if code == 0 && len(affected) > 0 {
				t.Errorf("affected %s has %d images, and the feed does not know it", a.cve, len(affected))
			}
			continue
		}
		if code != 0 {
			t.Errorf("affected %s: %s", a.cve, why)
			continue
		}
		got := map[string]bool{}
		for _, i := range affected {
			got[i.Manifest.Digest] = true
		}
		for _, m := range w.images {
			if got[m.digest] != want[m][a.id] {
				t.Errorf("affected %s has %s: %t, want %t", a.cve, m.names, got[m.digest], want[m][a.id])
			}
		}
	}
}

// give makes a name stand for an image.
func (w *truth) give(t *testing.T, m *made, name string) {
	t.Helper()
	w.must(t, nil, "index", "oci:"+m.dir, "--name", name, "--wait")
	w.means[name] = m
	if !slices.Contains(m.names, name) {
		m.names = append(m.names, name)
	}
}

// must runs the command line, which must succeed.
func (w *truth) must(t *testing.T, into any, args ...string) {
	t.Helper()
	if code, why := w.run(into, args...); code != 0 {
		t.Fatalf("tocsin %s: %d %s", strings.Join(args, " "), code, why)
	}
}

// told waits until every stored update has been told of.
func (w *truth) told(t *testing.T) {
	t.Helper()
	eventually(t, 2*time.Minute, "updates told of", func() (bool, string) {
		var stats v1.Stats
		w.call("GET", "/api/v1/stats", nil, &stats)
		return stats.PendingUpdates == 0, fmt.Sprintf("%+v", stats)
	})
}

// heard waits until a hook has had as many events, and nothing is left for it.
func (w *truth) heard(t *testing.T, hook *receiver, n int) {
	t.Helper()
	any := func(received) bool { return true }
	eventually(t, 2*time.Minute, "events at the webhook", func() (bool, string) {
		var stats v1.Stats
		w.call("GET", "/api/v1/stats", nil, &stats)
		return stats.Deliveries.Backlog == 0 && hook.count(any) >= n, fmt.Sprintf("%d of %d", hook.count(any), n)
	})
	if got := hook.count(any); got != n {
		t.Errorf("the webhook had %d events, want %d", got, n)
	}
}

// write makes a state of the feed's server out of what the feed says now.
func (w *truth) write(t *testing.T) feedState {
	t.Helper()
	w.versions++
	dir := filepath.Join(w.dir, fmt.Sprint("feed", w.versions))
	if err := os.MkdirAll(filepath.Join(dir, "osv", "npm"), 0o755); err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	put := func(a advised) {
		f, err := z.Create(a.id + ".json")
		if err != nil {
			t.Fatal(err)
		}
		err = json.NewEncoder(f).Encode(map[string]any{
			"id": a.id, "aliases": []string{a.cve}, "summary": "about " + a.pkg, "modified": "2026-01-01T00:00:00Z", "published": "2026-01-01T00:00:00Z",
			"severity": []any{map[string]string{"type": "CVSS_V3", "score": vectors[a.rank]}},
			"affected": []any{map[string]any{
				"package": map[string]string{"ecosystem": "npm", "name": a.pkg},
				"ranges":  []any{map[string]any{"type": "SEMVER", "events": []any{map[string]string{"introduced": "0"}, map[string]string{"fixed": fmt.Sprintf("1.%d.0", a.fixed)}}}},
			}},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(w.now)) {
		put(w.now[id])
	}
	for i := range w.filler {
		put(advised{id: fmt.Sprintf("GHSA-ffff-ffff-%04d", i), cve: fmt.Sprintf("CVE-2098-%04d", 1000+i), pkg: fmt.Sprint("filler", i), fixed: 1, rank: 5})
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"ecosystems.txt": []byte("npm\n"), "npm/all.zip": buf.Bytes()} {
		if err := os.WriteFile(filepath.Join(dir, "osv", filepath.FromSlash(name)), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return feedState{fmt.Sprint("state", w.versions), dir, time.Date(2026, 1, 1, 0, w.versions, 0, 0, time.UTC)}
}

// writeNPM writes an image with npm packages into an OCI layout.
func writeNPM(t *testing.T, packages map[string]int, n int) (dir, digest string) {
	t.Helper()
	files := map[string]string{"etc/image": fmt.Sprint(n)}
	for p, minor := range packages {
		files["app/node_modules/"+p+"/package.json"] = fmt.Sprintf(`{"name": %q, "version": "1.%d.0"}`, p, minor)
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name])), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(files[name])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	var img registry.Image
	if img, err = mutate.AppendLayers(empty.Image, layer); err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	path, err := layout.Write(dir, empty.Index)
	if err == nil {
		err = path.AppendImage(img)
	}
	if err != nil {
		t.Fatal(err)
	}
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return dir, d.String()
}
