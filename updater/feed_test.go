package updater

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// A mirror is a static server with conditional requests, whose files tests
// change while it runs.
type mirror struct {
	*httptest.Server
	mu    sync.Mutex
	files map[string]file
	hits  map[string]int
	hooks map[string]http.HandlerFunc
}

type file struct {
	data     []byte
	modified time.Time
}

func newMirror(t testing.TB) *mirror {
	m := &mirror{files: map[string]file{}, hits: map[string]int{}, hooks: map[string]http.HandlerFunc{}}
	m.Server = httptest.NewServer(m)
	t.Cleanup(m.Close)
	return m
}

func (m *mirror) put(path string, data []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	// Last-Modified has whole seconds: every version gets one of its own.
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	if old, ok := m.files[path]; ok {
		at = old.modified.Add(time.Minute)
	}
	m.files[path] = file{data, at}
}

// hook answers requests for path; nil takes the hook away.
func (m *mirror) hook(path string, h http.HandlerFunc) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if h == nil {
		delete(m.hooks, path)
		return
	}
	m.hooks[path] = h
}

func (m *mirror) count(request string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.hits[request]
}

func (m *mirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	m.hits[r.Method+" "+r.URL.Path]++
	f, ok := m.files[r.URL.Path]
	h := m.hooks[r.URL.Path]
	m.mu.Unlock()
	switch {
	case h != nil:
		h(w, r)
	case !ok:
		http.NotFound(w, r)
	default:
		w.Header().Set("ETag", fmt.Sprintf(`"%x"`, sha256.Sum256(f.data)))
		http.ServeContent(w, r, "", f.modified, bytes.NewReader(f.data))
	}
}

// An advisory in OSV's format about one Go module.
type advisory struct {
	id, module, fixed string
}

func (a advisory) json() string {
	return fmt.Sprintf(`{"schema_version":"1.3.1","id":%q,"modified":"2026-03-01T00:00:00Z","published":"2026-03-01T00:00:00Z",
"summary":"a test","affected":[{"package":{"name":%q,"ecosystem":"Go"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"},{"fixed":%q}]}]}]}`, a.id, a.module, a.fixed)
}

func zipped(t testing.TB, files map[string]string) []byte {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, data := range files {
		w, err := z.Create(name)
		if err == nil {
			_, err = w.Write([]byte(data))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func advisories(n int) map[string]string {
	files := make(map[string]string, n)
	for i := range n {
		a := advisory{fmt.Sprintf("GO-2026-%04d", i+1), fmt.Sprintf("example.com/m%d", i), "1.2.3"}
		files[a.id+".json"] = a.json()
	}
	return files
}

// of makes advisories those of another ecosystem.
func of(ecosystem string, files map[string]string) map[string]string {
	for name, a := range files {
		files[name] = strings.ReplaceAll(a, `"ecosystem":"Go"`, fmt.Sprintf(`"ecosystem":%q`, ecosystem))
	}
	return files
}

// osv puts the ecosystems with n advisories each.
func (m *mirror) osv(t testing.TB, n int, ecosystems ...string) {
	m.put("/ecosystems.txt", []byte(strings.Join(ecosystems, "\n")+"\n"))
	for _, e := range ecosystems {
		m.put("/"+e+"/all.zip", zipped(t, of(e, advisories(n))))
	}
}

// alpine puts a security database with the releases from v3.3 on.
func (m *mirror) alpine(stamp string, releases ...string) {
	m.put("/alpine/last-update", []byte(stamp))
	for _, r := range releases {
		m.put("/alpine/"+r+"/", []byte("<html>"))
		m.put("/alpine/"+r+"/main.json", []byte(fmt.Sprintf(
			`{"distroversion":%q,"reponame":"main","packages":[{"pkg":{"name":"busybox","secfixes":{"1.36.1-r1":["CVE-2023-42363"]}}}]}`, r)))
	}
}

// debian puts a tracker with one advisory for bookworm.
func (m *mirror) debian(t testing.TB) {
	m.put("/debian/dists/", []byte(`<a href="../">up</a> <a href="bookworm/">bookworm</a> <a href="stable/">stable</a>`))
	m.put("/debian/dists/bookworm/Release", []byte("Origin: Debian\nSuite: stable\nVersion: 12.11\nCodename: bookworm\n"))
	m.put("/tracker.json", marshal(t, map[string]any{"curl": map[string]any{"CVE-2026-0001": map[string]any{
		"description": "a test", "releases": map[string]any{"bookworm": map[string]any{"status": "resolved", "fixed_version": "7.88.1-10+deb12u9", "urgency": "low"}},
	}}}))
}

// kev puts a catalogue with the CVEs.
func (m *mirror) kev(t testing.TB, cves ...string) {
	var list []map[string]any
	for _, c := range cves {
		list = append(list, map[string]any{"cveID": c, "vulnerabilityName": "a test", "dateAdded": "2026-03-01"})
	}
	m.put("/kev.json", marshal(t, map[string]any{"catalogVersion": "1", "count": len(list), "vulnerabilities": list}))
}

// epss puts a file of scores.
func (m *mirror) epss(t testing.TB, scores map[string]float64) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	fmt.Fprint(z, "#model_version:v2025.03.14,score_date:2026-03-01T00:00:00+0000\ncve,epss,percentile\n")
	for cve, s := range scores {
		fmt.Fprintf(z, "%s,%g,0.5\n", cve, s)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	m.put("/epss.csv.gz", b.Bytes())
}

func marshal(t testing.TB, v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// config points every set that a mirror has at it, each alone.
func (m *mirror) config(sets ...string) Config {
	return Config{
		Sets: sets,
		Settings: Settings{
			"osv":    map[string]any{"url": m.URL + "/"},
			"alpine": map[string]any{"url": m.URL + "/alpine/"},
			"debian": map[string]any{"mirror_url": m.URL + "/", "json_url": m.URL + "/tracker.json"},
			"kev":    map[string]any{"feed_root": m.URL + "/kev.json"},
			"epss":   map[string]any{"url": m.URL + "/epss.csv.gz"},
		},
		Limits: Limits{Stall: 5 * time.Second},
	}
}
