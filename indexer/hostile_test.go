package indexer

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"tocsin.dev/tocsin/internal/jobs"
	"tocsin.dev/tocsin/schemas"
)

// tight are limits that a test can exceed.
var tight = Limits{MaxLayerBytes: 1 << 20, MaxUnpackedBytes: 4 << 20, MaxEntries: 50, LayerTimeout: 5 * time.Second, StallTimeout: 500 * time.Millisecond}

func serveBytes(b []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { w.Write(b) }
}

// bomb is a gzip stream of n zero bytes.
func bomb(t *testing.T, n int64) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	if _, err := io.CopyN(w, zeros{}, n); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestHostileLayers(t *testing.T) {
	t.Parallel()
	good := tarOf(t, alpineWith("musl", "1.2.4-r1"))
	packed := gzipped(t, good)
	many := map[string]string{}
	for i := range 60 {
		many[fmt.Sprintf("f%d", i)] = ""
	}
	var flaky, moved atomic.Int32
	zstded := func() []byte {
		w, err := zstd.NewWriter(nil)
		if err != nil {
			t.Fatal(err)
		}
		return w.EncodeAll(good, nil)
	}()
	huge, notTar := bomb(t, 8<<20), []byte(strings.Repeat("this is not a tar archive ", 100))
	p := newPlace(t)
	r := p.newRig(t, func(o *Options) { o.Limits, o.Concurrency = tight, 6 }).run(t)
	t.Run("layers", func(t *testing.T) { // waits for all
		for name, tc := range map[string]struct {
			content []byte // what the digest is of
			handler http.HandlerFunc
			hint    string // "" for success
			once    bool   // given up after one attempt
		}{
			"plain":            {good, serveBytes(good), "", true},
			"gzip":             {packed, serveBytes(packed), "", true},
			"zstd":             {zstded, serveBytes(zstded), "", true},
			"trailing garbage": {append(bytes.Clone(good), make([]byte, 4096)...), serveBytes(append(bytes.Clone(good), make([]byte, 4096)...)), "", true},
			"500, then good": {append(bytes.Clone(packed), gzipped(t, nil)...), func(w http.ResponseWriter, r *http.Request) {
				if flaky.Add(1) == 1 {
					http.Error(w, "not now", http.StatusInternalServerError)
					return
				}
				w.Write(append(bytes.Clone(packed), gzipped(t, nil)...))
			}, "", false},
			"redirected": {gzipped(t, tarOf(t, alpineWith("busybox", "1"))), func(w http.ResponseWriter, r *http.Request) {
				if moved.Add(1) == 1 {
					http.Redirect(w, r, r.URL.Path+"?again", http.StatusTemporaryRedirect)
					return
				}
				w.Write(gzipped(t, tarOf(t, alpineWith("busybox", "1"))))
			}, "", true},
			"404":          {[]byte("404"), http.NotFound, "404 Not Found", true},
			"403":          {[]byte("403"), func(w http.ResponseWriter, r *http.Request) { http.Error(w, "", http.StatusForbidden) }, "publish the manifest again", true},
			"always 500":   {[]byte("500"), func(w http.ResponseWriter, r *http.Request) { http.Error(w, "", http.StatusInternalServerError) }, "500 Internal Server Error", false},
			"wrong digest": {[]byte("something else"), serveBytes(good), "its content has the digest " + digestOf(good), true},
			"cut off in transfer": {[]byte("cut off in transfer"), func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Length", "100000")
				w.Write(good[:1000])
			}, "the transfer was cut off", false},
			"cut off at the source": {packed[:len(packed)/2], serveBytes(packed[:len(packed)/2]), "its content is cut off", true},
			"damaged":               {append([]byte{0x1f, 0x8b}, notTar...), serveBytes(append([]byte{0x1f, 0x8b}, notTar...)), "its content is damaged", true},
			"not a tar":             {notTar, serveBytes(notTar), "it is not a tar archive", true},
			"not a tar, packed":     {gzipped(t, notTar), serveBytes(gzipped(t, notTar)), "it is not a tar archive", true},
			"tar cut off":           {good[:1300], serveBytes(good[:1300]), "its tar archive is cut off", true},
			"gzip bomb":             {huge, serveBytes(huge), "it unpacks to more than the limit", true},
			"many entries":          {tarOf(t, many), serveBytes(tarOf(t, many)), "more than the limit of 50 entries", true},
			"announced too large": {[]byte("announced"), func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Length", "99999999999")
				w.WriteHeader(http.StatusOK)
			}, "more than the limit", true},
			"endless": {[]byte("endless"), func(w http.ResponseWriter, r *http.Request) {
				for r.Context().Err() == nil {
					if _, err := w.Write(notTar); err != nil {
						return
					}
				}
			}, "more than the limit", true},
			"stalled": {[]byte("stalled"), func(w http.ResponseWriter, r *http.Request) {
				w.Write(good[:600])
				w.(http.Flusher).Flush()
				<-r.Context().Done()
			}, "stalled", false},
			"never answers": {[]byte("never"), func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "", false},
			"redirect to metadata": {[]byte("metadata"), func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "http://169.254.169.254/latest/meta-data/", http.StatusFound)
			}, "cloud metadata address", true},
			"redirect to private": {[]byte("private"), func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "http://10.0.0.1/", http.StatusFound)
			}, "indexer.allow_networks", true},
			"redirect for ever": {[]byte("loop"), func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, r.URL.Path, http.StatusFound)
			}, "redirect refused", true},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				srv := httptest.NewServer(tc.handler)
				t.Cleanup(srv.Close)
				layer := digestOf(tc.content)
				got := r.submit(t, Request{Names: []string{name}, Manifest: &Manifest{
					Digest: digestOf([]byte(t.Name())), Layers: []Layer{{Digest: layer, URI: srv.URL + "/blob?signature=s3cret"}},
				}})
				img := r.wait(t, got.Digest)
				if name == "never answers" {
					if img.State != StateFailed || !strings.Contains(img.Reason, "stalled") && !strings.Contains(img.Reason, "timeout") {
						t.Errorf("image is %s: %s", img.State, img.Reason)
					}
					return
				}
				if tc.hint == "" {
					if img.State != StateIndexed || img.Packages != 1 {
						t.Errorf("image is %s with %d packages: %s", img.State, img.Packages, img.Reason)
					}
					return
				}
				if img.State != StateFailed || !strings.Contains(img.Reason, tc.hint) || !strings.Contains(img.Reason, layer) {
					t.Errorf("image is %s: %s; want it failed with %q", img.State, img.Reason, tc.hint)
				}
				if strings.Contains(img.Reason, "s3cret") {
					t.Errorf("the reason has the signature: %s", img.Reason)
				}
				events := slices.DeleteFunc(announced[schemas.ManifestIndexFailed](t, r.pool, schemas.TypeManifestIndexFailed),
					func(e schemas.ManifestIndexFailed) bool { return e.Manifest.Digest != got.Digest })
				if len(events) != 1 || events[0].Manifest.Digest != got.Digest || events[0].Reason != img.Reason || events[0].Manifest.Names[0] != name {
					t.Errorf("announced %+v", events)
				}
				if want := 1; tc.once && (len(events) == 0 || events[0].Attempts != want) {
					t.Errorf("given up after %+v, want %d attempts", events, want)
				} else if !tc.once && (len(events) == 0 || events[0].Attempts != 3) {
					t.Errorf("given up after %+v, want 3 attempts", events)
				}
				list, err := r.jobs.List(t.Context(), jobs.Filter{Kind: JobKind, Key: got.Digest, State: jobs.Failed})
				if err != nil || len(list) != 1 || list[0].Reason != img.Reason {
					t.Errorf("failed jobs %+v, %v", list, err)
				}
			})
		}
	})
	// Nothing is left on disk or in memory.
	r.stop()
	left, err := filepath.Glob(filepath.Join(r.arena.dir, "*"))
	if err != nil || len(left) != 0 || len(r.arena.spools) != 0 {
		t.Errorf("left behind: %v, %v, %d spools", left, err, len(r.arena.spools))
	}
}

// A failed manifest is tried again when it is submitted again.
func TestFailedThenMended(t *testing.T) {
	t.Parallel()
	content := tarOf(t, alpineWith("musl", "1"))
	var up atomic.Bool
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !up.Load() {
			http.NotFound(w, r)
			return
		}
		w.Write(content)
	}))
	t.Cleanup(srv.Close)
	r := newPlace(t).newRig(t, nil).run(t)
	req := Request{Manifest: &Manifest{Digest: digestOf([]byte("m")), Layers: []Layer{{Digest: digestOf(content), URI: srv.URL}}}}
	got := r.submit(t, req)
	if img := r.wait(t, got.Digest); img.State != StateFailed {
		t.Fatalf("image is %s", img.State)
	}
	up.Store(true)
	r.submit(t, req)
	if img := r.wait(t, got.Digest); img.State != StateIndexed || img.Reason != "" {
		t.Errorf("image is %s: %s", img.State, img.Reason)
	}
}

// The same layer twice in a manifest, and empty ones, are ordinary.
func TestRepeatedAndEmptyLayers(t *testing.T) {
	t.Parallel()
	content, nothing := tarOf(t, alpineWith("musl", "1")), tarOf(t, nil)
	var hits atomic.Int32
	mux := http.NewServeMux()
	mux.HandleFunc("/content", func(w http.ResponseWriter, r *http.Request) { hits.Add(1); w.Write(content) })
	mux.HandleFunc("/nothing", serveBytes(nothing))
	mux.HandleFunc("/zero", serveBytes(nil))
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	r := newPlace(t).newRig(t, nil).run(t)
	l := []Layer{
		{Digest: digestOf(content), URI: srv.URL + "/content"}, {Digest: digestOf(nothing), URI: srv.URL + "/nothing"},
		{Digest: digestOf(nothing), URI: srv.URL + "/nothing"}, {Digest: digestOf(nil), URI: srv.URL + "/zero"},
		{Digest: digestOf(content), URI: srv.URL + "/content"},
	}
	got := r.submit(t, Request{Manifest: &Manifest{Digest: digestOf([]byte("m")), Layers: l}})
	if img := r.wait(t, got.Digest); img.State != StateIndexed || img.Packages != 1 {
		t.Errorf("image is %s with %d packages: %s", img.State, img.Packages, img.Reason)
	}
	if hits.Load() > 2 {
		t.Errorf("the layer was fetched %d times", hits.Load())
	}
}

func TestArenaCleansUp(t *testing.T) {
	t.Parallel()
	r := newPlace(t).newRig(t, nil)
	old := filepath.Join(r.arena.dir, spoolPrefix+"left")
	if err := os.WriteFile(old, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	then := time.Now().Add(-time.Hour)
	if err := os.Chtimes(old, then, then); err != nil {
		t.Fatal(err)
	}
	r.run(t)
	eventually(t, "the leftover is gone", func() bool { _, err := os.Stat(old); return os.IsNotExist(err) })
}
