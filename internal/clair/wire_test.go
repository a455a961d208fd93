package clair_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/quay/claircore"

	"tocsin.dev/tocsin/internal/clair"
)

var update = flag.Bool("update", false, "write the golden files anew")

func handler(f *fixed) http.Handler {
	return clair.New(clair.Options{Indexer: f, Matcher: f, Notifications: f, CacheAge: 6 * time.Hour})
}

// headers that clients lean on.
var wireHeaders = []string{"Content-Type", "Etag", "Location", "Link", "Cache-Control", "X-Content-Type-Options", "Retry-After"}

// TestWire holds every endpoint's status, headers and body to a golden file.
func TestWire(t *testing.T) {
	t.Parallel()
	manifest := func(d claircore.Digest) string {
		return fmt.Sprintf(`{"hash":%q,"layers":[{"hash":%q,"uri":"https://r.example/l","headers":{"Authorization":["Bearer x"]},"extra":1}]}`, d, layer)
	}
	match := http.Header{"If-None-Match": {`"` + state + `"`}}
	const ix, mx, nx = "/indexer/api/v1/", "/matcher/api/v1/", "/notifier/api/v1/notification/"
	for _, c := range []struct {
		name, method, path, body string
		header                   http.Header
	}{
		{name: "index", method: "POST", path: ix + "index_report", body: manifest(known)},
		{name: "index-unmodified", method: "POST", path: ix + "index_report", body: manifest(known), header: match},
		{name: "index-bogus", method: "POST", path: ix + "index_report", body: `{"hash":"` + known.String() + `"}`},
		{name: "index-bad-digest", method: "POST", path: ix + "index_report", body: `{"hash":"md5:00","layers":[{}]}`},
		{name: "index-not-json", method: "POST", path: ix + "index_report", body: `hash=1`},
		{name: "index-two-values", method: "POST", path: ix + "index_report", body: manifest(known) + "{}"},
		{name: "index-not-tar", method: "POST", path: ix + "index_report", body: manifest(notTar)},
		{name: "index-refused", method: "POST", path: ix + "index_report", body: manifest(unknown)},
		{name: "index-no-layer", method: "POST", path: ix + "index_report", body: manifest(broken)},
		{name: "index-method", method: "PUT", path: ix + "index_report"},
		{name: "report", method: "GET", path: ix + "index_report/" + known.String()},
		{name: "report-plain", method: "GET", path: ix + "index_report/" + known.String(), header: http.Header{"Accept": {"text/html, application/json;q=0.5"}}},
		{name: "report-unsupported", method: "GET", path: ix + "index_report/" + known.String(), header: http.Header{"Accept": {"text/html"}}},
		{name: "report-bad-accept", method: "GET", path: ix + "index_report/" + known.String(), header: http.Header{"Accept": {"text//html"}}},
		{name: "report-unmodified", method: "GET", path: ix + "index_report/" + known.String(), header: match},
		{name: "report-unknown-unmodified", method: "GET", path: ix + "index_report/" + unknown.String(), header: match},
		{name: "report-unknown", method: "GET", path: ix + "index_report/" + unknown.String()},
		{name: "report-bad-digest", method: "GET", path: ix + "index_report/latest"},
		{name: "report-delete", method: "DELETE", path: ix + "index_report/" + unknown.String()},
		{name: "reports-delete", method: "DELETE", path: ix + "index_report", body: fmt.Sprintf(`[%q,%q]`, known, unknown)},
		{name: "state", method: "GET", path: ix + "index_state"},
		{name: "state-unmodified", method: "GET", path: ix + "index_state", header: match},
		{name: "affected", method: "POST", path: ix + "internal/affected_manifest/", body: `{"vulnerabilities":[{"id":"1","name":"CVE-2023-1","normalized_severity":"High"}]}`},
		{name: "affected-bad-cpe", method: "POST", path: ix + "internal/affected_manifest/", body: `{"vulnerabilities":[{"id":"1","repository":{"cpe":"nonsense"}}]}`},
		{name: "vulnerabilities", method: "GET", path: mx + "vulnerability_report/" + known.String()},
		{name: "vulnerabilities-unknown", method: "GET", path: mx + "vulnerability_report/" + unknown.String()},
		{name: "operations", method: "GET", path: mx + "internal/update_operation"},
		{name: "operations-latest", method: "GET", path: mx + "internal/update_operation?latest=true&kind=enrichment"},
		{name: "operations-unmodified", method: "GET", path: mx + "internal/update_operation", header: http.Header{"If-None-Match": {`"` + refNew.String() + `"`}}},
		{name: "operations-bad-kind", method: "GET", path: mx + "internal/update_operation?kind=all"},
		{name: "operation-delete", method: "DELETE", path: mx + "internal/update_operation/" + refOld.String()},
		{name: "operation-delete-in-use", method: "DELETE", path: mx + "internal/update_operation/" + refNew.String()},
		{name: "diff", method: "GET", path: mx + "internal/update_diff?cur=" + refNew.String() + "&prev=" + refOld.String()},
		{name: "diff-no-cur", method: "GET", path: mx + "internal/update_diff"},
		{name: "notification", method: "GET", path: nx + notice.String()},
		{name: "notification-page", method: "GET", path: nx + notice.String() + "?page_size=2"},
		{name: "notification-last", method: "GET", path: nx + notice.String() + "?page_size=2&next=44444444-4444-4444-8444-000000000002"},
		{name: "notification-unknown", method: "GET", path: nx + refOld.String()},
		{name: "notification-bad-size", method: "GET", path: nx + notice.String() + "?page_size=0"},
		{name: "notification-delete", method: "DELETE", path: nx + notice.String()},
		{name: "notification-delete-unknown", method: "DELETE", path: nx + refOld.String()},
		{name: "robots", method: "GET", path: "/robots.txt"},
		{name: "nowhere", method: "GET", path: "/indexer/api/v2/"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(c.method, c.path, strings.NewReader(c.body))
			for k, v := range c.header {
				r.Header[k] = v
			}
			w := httptest.NewRecorder()
			handler(newFixed(t)).ServeHTTP(w, r)
			golden(t, c.name, w)
		})
	}
}

func golden(t *testing.T, name string, w *httptest.ResponseRecorder) {
	t.Helper()
	var got bytes.Buffer
	fmt.Fprintf(&got, "%d\n", w.Code)
	for _, h := range wireHeaders {
		for _, v := range w.Header()[h] {
			fmt.Fprintf(&got, "%s: %s\n", h, v)
		}
	}
	got.WriteByte('\n')
	if json.Valid(w.Body.Bytes()) {
		if err := json.Indent(&got, w.Body.Bytes(), "", "  "); err != nil {
			t.Fatal(err)
		}
	} else {
		got.Write(w.Body.Bytes())
	}
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got.String()); d != "" {
		t.Errorf("the wire has changed (-want +got):\n%s", d)
	}
}

// TestNoUntaggedField fails if a field of the engine's types is marshalled as
// it is named in Go, at any depth.
func TestNoUntaggedField(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.golden")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	var walk func(file, path string, v any)
	walk = func(file, path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, e := range v {
				if k[0] >= 'A' && k[0] <= 'Z' {
					t.Errorf("%s: %s/%s", file, path, k)
				}
				walk(file, path+"/"+k, e)
			}
		case []any:
			for _, e := range v {
				walk(file, path+"/-", e)
			}
		case nil:
			t.Errorf("%s: %s is null", file, path)
		}
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		_, body, _ := bytes.Cut(b, []byte("\n\n"))
		var v any
		if json.Unmarshal(body, &v) == nil {
			walk(f, "", v)
		}
	}
}

func TestReportIsAcceptedWhileThereIsNoFeed(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	handler(&fixed{}).ServeHTTP(w, httptest.NewRequest("GET", "/matcher/api/v1/vulnerability_report/"+known.String(), nil))
	if w.Code != http.StatusAccepted || w.Body.Len() != 0 {
		t.Errorf("got %d with %d bytes, want 202 with none", w.Code, w.Body.Len())
	}
}

func TestAffectedNeverHandsOnNil(t *testing.T) {
	t.Parallel()
	f := newFixed(t)
	w := httptest.NewRecorder()
	handler(f).ServeHTTP(w, httptest.NewRequest("POST", "/indexer/api/v1/internal/affected_manifest/",
		strings.NewReader(`{"vulnerabilities":[{"id":"7","range":{"[":"","  )":""},"arch_op":"equals"}]}`)))
	if w.Code != http.StatusOK || len(f.asked) != 1 {
		t.Fatalf("got %d: %s", w.Code, w.Body)
	}
	if v := f.asked[0]; v.Package == nil || v.Dist == nil || v.Repo == nil || v.ArchOperation != claircore.OpEquals {
		t.Errorf("handed on %+v", v)
	}
}

func TestIndexingIsBounded(t *testing.T) {
	t.Parallel()
	f := newFixed(t)
	f.indexing, f.began = make(chan struct{}), make(chan struct{})
	h := clair.New(clair.Options{Indexer: f, IndexConcurrency: 1})
	post := func(path, body string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("POST", path, strings.NewReader(body)))
		return w
	}
	body := fmt.Sprintf(`{"hash":%q,"layers":[{"hash":%q}]}`, known, layer)
	first := make(chan int)
	go func() { first <- post("/indexer/api/v1/index_report", body).Code }()
	<-f.began
	if w := post("/indexer/api/v1/index_report", body); w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") == "" {
		t.Errorf("a second request got %d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
	}
	if w := post("/indexer/api/v1/internal/affected_manifest/", `{}`); w.Code != http.StatusOK {
		t.Errorf("affected_manifest got %d while indexing is busy", w.Code)
	}
	close(f.indexing)
	if code := <-first; code != http.StatusCreated {
		t.Errorf("the first request got %d", code)
	}
}

func TestBodyIsBounded(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	handler(newFixed(t)).ServeHTTP(w, httptest.NewRequest("POST", "/indexer/api/v1/index_report",
		io.MultiReader(strings.NewReader(`{"hash":"`), strings.NewReader(strings.Repeat("a", 5<<20)))))
	if w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("got %d", w.Code)
	}
}

func TestLargeAnswersAreCompressed(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequest("GET", "/openapi/v1", nil)
	w := httptest.NewRecorder()
	handler(newFixed(t)).ServeHTTP(w, r)
	var doc struct{ Paths map[string]any }
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil || len(doc.Paths) != 9 {
		t.Errorf("description of %d paths, %v", len(doc.Paths), err)
	}
	r.Header.Set("Accept", "application/yaml")
	w = httptest.NewRecorder()
	handler(newFixed(t)).ServeHTTP(w, r)
	if !strings.Contains(w.Body.String(), "\nopenapi: 3.1.0\n") {
		t.Errorf("no YAML: %.100s", w.Body)
	}

	big := clair.New(clair.Options{Notifications: many{newFixed(t)}})
	r = httptest.NewRequest("GET", "/notifier/api/v1/notification/"+notice.String(), nil)
	r.Header.Set("Accept-Encoding", "deflate, gzip")
	w = httptest.NewRecorder()
	big.ServeHTTP(w, r)
	z, err := gzip.NewReader(w.Body)
	if err != nil || w.Header().Get("Content-Encoding") != "gzip" {
		t.Fatalf("encoding %q: %v", w.Header().Get("Content-Encoding"), err)
	}
	var page struct{ Notifications []any }
	if err := json.NewDecoder(z).Decode(&page); err != nil || len(page.Notifications) != 60 {
		t.Errorf("%d notifications, %v", len(page.Notifications), err)
	}
}

// many has more to say than fixed.
type many struct{ *fixed }

func (m many) Page(ctx context.Context, id, after uuid.UUID, limit int) ([]clair.Notification, bool, error) {
	return slices.Repeat(notes(), 20), false, nil
}

func TestAuthenticationGuardsAllButRobots(t *testing.T) {
	t.Parallel()
	h := clair.New(clair.Options{Authenticate: func(*http.Request) (string, int) { return "", http.StatusUnauthorized }})
	for path, want := range map[string]int{"/robots.txt": 200, "/openapi/v1": 401, "/indexer/api/v1/index_state": 401, "/x": 401} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != want || (want == 401 && w.Body.Len() != 0) {
			t.Errorf("%s: %d, %q", path, w.Code, w.Body)
		}
	}
}
