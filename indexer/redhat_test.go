package indexer

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/quay/claircore/datastore/postgres"
	"github.com/quay/claircore/libindex"
	"github.com/quay/claircore/rhel"
	"github.com/quay/claircore/rhel/rhcc"

	"tocsin.dev/tocsin/indexer/ecosystem"

	"tocsin.dev/tocsin/schemas"
)

// ubi is what claircore recognises a layer of Red Hat's by.
var ubi = map[string]string{
	"root/buildinfo/Dockerfile-ubi8-8.7-1054": `FROM scratch
LABEL com.redhat.component="ubi8-container" name="ubi8" version="8.7" architecture="x86_64"
`,
	"root/buildinfo/content_manifests/ubi8.json": `{"content_sets":["rhel-8-for-x86_64-baseos-rpms"],"metadata":{"image_layer_index":0}}`,
}

const (
	names2repos = `{"data":{"ubi8":["ubi8/ubi"]}}`
	repos2cpes  = `{"data":{"rhel-8-for-x86_64-baseos-rpms":{"cpes":["cpe:/o:redhat:enterprise_linux:8::baseos"]}}}`
)

// redHatAt points both scanners at mapping files.
func redHatAt(t *testing.T, package_, repo map[string]string) func(*Options) {
	set := func(config map[string]string) func(any) error {
		b, err := json.Marshal(config)
		if err != nil {
			t.Fatal(err)
		}
		return func(v any) error { return json.Unmarshal(b, v) }
	}
	return func(o *Options) {
		o.Scanners.Package[containerScanner] = set(package_)
		o.Scanners.Repo[repositoryScanner] = set(repo)
	}
}

// Without internet, an image that needs Red Hat's mapping files is indexed with
// a warning, every other one without, and once the files can be had the first
// is indexed again by itself.
func TestWithoutInternet(t *testing.T) {
	t.Parallel()
	var up atomic.Bool
	var asked atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if !up.Load() {
			http.Error(w, "no internet", http.StatusBadGateway)
			return
		}
		io.WriteString(w, map[string]string{"/names": names2repos, "/repos": repos2cpes}[r.URL.Path])
	}))
	t.Cleanup(srv.Close)
	p := newPlace(t)
	r := p.newRig(t, redHatAt(t, map[string]string{"name2repos_mapping_url": srv.URL + "/names"}, map[string]string{"repo2cpe_mapping_url": srv.URL + "/repos"}))
	for _, m := range r.mappings {
		m.backoff = 0
	}
	r.run(t)

	other := r.submit(t, one(t, "musl"))
	if img := r.wait(t, other.Digest); img.State != StateIndexed || len(img.Warnings) != 0 || img.Packages != 1 {
		t.Errorf("an Alpine image: %+v", img)
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("the mapping files were asked for %d times without need", n)
	}

	layers := tarOf(t, ubi)
	files := httptest.NewServer(serveBytes(layers))
	t.Cleanup(files.Close)
	got := r.submit(t, Request{Names: []string{"ubi"}, Manifest: &Manifest{Digest: digestOf([]byte("ubi")), Layers: []Layer{{Digest: digestOf(layers), URI: files.URL}}}})
	img := r.wait(t, got.Digest)
	if img.State != StateIndexed || len(img.Warnings) != 2 || !strings.Contains(strings.Join(img.Warnings, " "), "502") {
		t.Errorf("a Red Hat image: %s, warnings %q, %s", img.State, img.Warnings, img.Reason)
	}
	event := announced[schemas.ManifestIndexed](t, r.pool, schemas.TypeManifestIndexed)[1]
	if !slices.Equal(event.Warnings, img.Warnings) {
		t.Errorf("announced warnings %q", event.Warnings)
	}

	up.Store(true)
	eventually(t, "it is indexed whole", func() bool {
		img, err := r.Get(t.Context(), got.Digest)
		return err == nil && len(img.Warnings) == 0
	})
	if got := r.packages(t, got.Digest); !slices.Contains(got, "ubi8/ubi 8.7-1054") {
		t.Errorf("packages %q", got)
	}
	var cpes int
	if err := r.pool.QueryRow(t.Context(), `SELECT count(*) FROM repo WHERE key = 'rhel-cpe-repository'`).Scan(&cpes); err != nil || cpes != 1 {
		t.Errorf("%d repositories, %v", cpes, err)
	}
	if n := r.records(other.Digest); n != 1 {
		t.Errorf("the other image was indexed %d times", n)
	}
}

// With files in the configuration nothing is asked of anybody.
func TestMappingFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, content := range map[string]string{"names.json": names2repos, "repos.json": repos2cpes} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := newPlace(t).newRig(t, redHatAt(t,
		map[string]string{"name2repos_mapping_file": filepath.Join(dir, "names.json")},
		map[string]string{"repo2cpe_mapping_file": filepath.Join(dir, "repos.json")})).run(t)
	layers := tarOf(t, ubi)
	files := httptest.NewServer(serveBytes(layers))
	t.Cleanup(files.Close)
	got := r.submit(t, Request{Manifest: &Manifest{Digest: digestOf([]byte("ubi")), Layers: []Layer{{Digest: digestOf(layers), URI: files.URL}}}})
	if img := r.wait(t, got.Digest); img.State != StateIndexed || len(img.Warnings) != 0 {
		t.Errorf("image is %s, warnings %q: %s", img.State, img.Warnings, img.Reason)
	}
	if got := r.packages(t, got.Digest); !slices.Contains(got, "ubi8/ubi 8.7-1054") {
		t.Errorf("packages %q", got)
	}
}

func TestMappingFetch(t *testing.T) {
	t.Parallel()
	answer := http.HandlerFunc(http.NotFound)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answer(w, r) }))
	t.Cleanup(srv.Close)
	dir := t.TempDir()
	file := filepath.Join(dir, "configured.json")
	if err := os.WriteFile(file, []byte(names2repos), 0o600); err != nil {
		t.Fatal(err)
	}
	m := newMapping(srv.URL+"?token=s3cret", "", "", filepath.Join(dir, "cache.json"), srv.Client(), newPlace(t).newRig(t, nil).log)
	m.backoff = 0
	for name, h := range map[string]http.HandlerFunc{
		"404":      http.NotFound,
		"not JSON": serveBytes([]byte("<html>")),
		"empty":    serveBytes([]byte(`{"data":{}}`)),
		"cut off":  serveBytes([]byte(`{"data":{"a":`)),
	} {
		answer = h
		if path, err := m.path(t.Context()); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %s, %v", name, path, err)
		}
	}
	m.file = file
	if path, err := m.path(t.Context()); err != nil || path != file {
		t.Errorf("with a file to fall back to: %s, %v", path, err)
	}
	answer = serveBytes([]byte(names2repos))
	if path, err := m.path(t.Context()); err != nil || path != m.cache {
		t.Errorf("with a good server: %s, %v", path, err)
	}
	answer = http.NotFound
	if path, err := m.path(t.Context()); err != nil || path != m.cache {
		t.Errorf("with a fresh cache: %s, %v", path, err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*.new-*")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// What stands before scanners reports to be what it stands before: the scanner
// state, which clients compare, is the one that the ecosystems have by
// themselves.
func TestStateIsTheScanners(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	r := p.newRig(t, nil)
	ctx := t.Context()
	lib, err := libindex.New(ctx, &libindex.Options{
		Store: postgres.NewIndexerStore(p.pool), Locker: &locker{p.pool}, FetchArena: r.arena,
		Ecosystems: ecosystem.All(ctx, &libStore{}, rhel.NewEcosystem(ctx), rhcc.NewEcosystem(ctx)),
	}, &http.Client{Transport: refuse{}})
	if err != nil {
		t.Fatal(err)
	}
	state, err := lib.State(ctx)
	if err != nil || state != r.State() {
		t.Errorf("our state is %s, that of the ecosystems %s, %v", r.State(), state, err)
	}
}

// refuse is a network that isn't there.
type refuse struct{}

func (refuse) RoundTrip(*http.Request) (*http.Response, error) { return nil, io.ErrClosedPipe }

// A host that could not be reached is left alone for a while.
func TestFailFast(t *testing.T) {
	t.Parallel()
	var tried atomic.Int32
	f := &failFast{next: roundTripper(func(*http.Request) (*http.Response, error) {
		tried.Add(1)
		return nil, io.ErrUnexpectedEOF
	})}
	for range 3 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://search.example/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.RoundTrip(req); err == nil {
			t.Fatal("no error")
		}
	}
	if n := tried.Load(); n != 1 {
		t.Errorf("the host was tried %d times", n)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
