package indexer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"tocsin.dev/tocsin/indexer/image"
	"tocsin.dev/tocsin/internal/jobs"
	"tocsin.dev/tocsin/schemas"
)

// login is a keychain with one login for every registry.
type login struct{ user, password string }

func (l login) Resolve(authn.Resource) (authn.Authenticator, error) {
	return authn.FromConfig(authn.AuthConfig{Username: l.user, Password: l.password}), nil
}

// privateRegistry runs a registry that wants a login.
func privateRegistry(t *testing.T, l login) (host string, down *atomic.Bool) {
	t.Helper()
	h := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	down = &atomic.Bool{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if down.Load() {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		if u, p, _ := r.BasicAuth(); u != l.user || p != l.password {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED"}]}`, http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://"), down
}

func push(t *testing.T, ref string, what any, l login) {
	t.Helper()
	r, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	switch what := what.(type) {
	case v1.Image:
		err = remote.Write(r, what, remote.WithAuthFromKeychain(l))
	case v1.ImageIndex:
		err = remote.WriteIndex(r, what, remote.WithAuthFromKeychain(l))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// stored is everything that the database holds of manifests and jobs, as text.
func (r *rig) stored(t *testing.T) string {
	t.Helper()
	var text string
	if err := r.pool.QueryRow(t.Context(), `
		SELECT coalesce((SELECT string_agg(m::text, ' ') FROM tocsin.manifest m), '')
		    || coalesce((SELECT string_agg(n::text, ' ') FROM tocsin.naming n), '')
		    || coalesce((SELECT string_agg(j::text, ' ') FROM tocsin.job j), '')`).Scan(&text); err != nil {
		t.Fatal(err)
	}
	return text
}

// A multi-platform image of a registry with a login, published on NATS by its
// name alone.
func TestRegistry(t *testing.T) {
	t.Parallel()
	l := login{"robot", "s3cret-password"}
	host, _ := privateRegistry(t, l)
	var idx v1.ImageIndex = empty.Index
	for platform, version := range map[string]string{"linux/amd64": "1", "linux/arm64": "2", "windows/amd64": "3"} {
		p, err := v1.ParsePlatform(platform)
		if err != nil {
			t.Fatal(err)
		}
		idx = mutate.AppendManifests(idx, mutate.IndexAddendum{Add: imageOf(t, platform, alpineWith("musl", version)), Descriptor: v1.Descriptor{Platform: p}})
	}
	ref := host + "/team/app:1"
	push(t, ref, idx, l)
	r := newPlace(t).newRig(t, func(o *Options) { o.Keychain = l }).run(t)
	r.publish(t, nil, fmt.Appendf(nil, `{"image":%q,"labels":{"team":"blue"}}`, ref))

	var images []Image
	eventually(t, "both platforms are indexed", func() bool {
		var err error
		images, err = r.List(t.Context(), Filter{Name: host + "/*", State: StateIndexed})
		return err == nil && len(images) == 2
	})
	var platforms []string
	for _, img := range images {
		if !slices.Equal(img.Names, []string{ref}) || img.Labels["team"] != "blue" || img.Packages != 1 || img.Reference != ref {
			t.Errorf("image %+v", img)
		}
		platforms = append(platforms, img.Labels["platform"])
	}
	if slices.Sort(platforms); !slices.Equal(platforms, []string{"linux/amd64", "linux/arm64"}) {
		t.Errorf("platforms %q", platforms)
	}
	done, err := r.jobs.List(t.Context(), jobs.Filter{Kind: JobKind, Key: ref + "#" + imageToSettle{Reference: ref, Labels: map[string]string{"team": "blue"}}.key()[len(ref)+1:]})
	if err != nil || len(done) != 1 || !strings.Contains(done[0].Result, images[0].Digest) || !strings.Contains(done[0].Result, images[1].Digest) {
		t.Errorf("the job that settled the reference: %+v, %v", done, err)
	}
	if text := r.stored(t); strings.Contains(text, l.password) || strings.Contains(text, "Basic ") {
		t.Error("the database has the password")
	}

	// The same through the API, which answers with the manifests.
	got, err := r.Submit(t.Context(), Request{Image: ref, Platforms: []string{"linux/arm64"}})
	if err != nil || len(got) != 1 || got[0].Platform != "linux/arm64" || !got[0].Known || got[0].Job.Key != "" {
		t.Errorf("Submit = %+v, %v", got, err)
	}
	for ref, hint := range map[string]string{host + "/team/nope:1": "does not have it", host + "/team/app:nope": "does not have it"} {
		_, err := r.Submit(t.Context(), Request{Image: ref})
		if _, ok := errors.AsType[*image.Error](err); !ok || !strings.Contains(err.Error(), hint) {
			t.Errorf("Submit(%s) = %v", ref, err)
		}
		r.publish(t, nil, fmt.Appendf(nil, `{"image":%q,"names":["n"],"labels":{"a":"b"}}`, ref))
	}
	eventually(t, "both failures are announced", func() bool {
		events := announced[schemas.ManifestIndexFailed](t, r.pool, schemas.TypeManifestIndexFailed)
		for _, e := range events {
			if e.Manifest.Digest != "" || e.Manifest.Names[0] != "n" || e.Manifest.Labels["a"] != "b" || e.Attempts != 1 || !strings.Contains(e.Reason, "does not have it") {
				t.Fatalf("announced %+v", e)
			}
		}
		return len(events) == 2
	})
	// The same again, as of a tag that is followed, is a job and no event.
	failed := func() int {
		list, err := r.jobs.List(t.Context(), jobs.Filter{Kind: JobKind, State: jobs.Failed, Limit: jobs.MaxLimit})
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	eventually(t, "both jobs have failed", func() bool { return failed() == 2 })
	r.publish(t, nil, fmt.Appendf(nil, `{"image":"%s/team/app:nope","names":["n"],"labels":{"a":"b"}}`, host))
	eventually(t, "it has failed again", func() bool { return failed() == 3 })
	if events := announced[schemas.ManifestIndexFailed](t, r.pool, schemas.TypeManifestIndexFailed); len(events) != 2 {
		t.Errorf("%d events", len(events))
	}
}

// An indexed image is indexed again with credentials asked for anew, and a
// registry that is away does not cost it its inventory.
func TestReindexFromRegistry(t *testing.T) {
	t.Parallel()
	l := login{"robot", "s3cret"}
	host, down := privateRegistry(t, l)
	ref := host + "/app:1"
	push(t, ref, imageOf(t, "linux/amd64", alpineWith("musl", "1")), l)
	r := newPlace(t).newRig(t, func(o *Options) { o.Keychain = l }).run(t)
	got, err := r.Submit(t.Context(), Request{Image: ref})
	if err != nil {
		t.Fatal(err)
	}
	digest := got[0].Digest
	if img := r.wait(t, digest); img.State != StateIndexed {
		t.Fatalf("image is %s: %s", img.State, img.Reason)
	}
	before := r.packages(t, digest)

	down.Store(true)
	r.age(t, digest)
	eventually(t, "the second index is given up", func() bool {
		return len(announced[schemas.ManifestIndexFailed](t, r.pool, schemas.TypeManifestIndexFailed)) == 1
	})
	img, err := r.Get(t.Context(), digest)
	if err != nil || img.State != StateIndexed || !strings.Contains(img.Reason, "layer sha256:") {
		t.Errorf("image is %s: %s, %v; want it still indexed, with the reason", img.State, img.Reason, err)
	}
	if after := r.packages(t, digest); !slices.Equal(before, after) {
		t.Errorf("the report served has %q, before it had %q", after, before)
	}

	down.Store(false)
	r.age(t, digest)
	eventually(t, "it is indexed again", func() bool { return r.records(digest) == 2 })
	eventually(t, "the reason is gone", func() bool {
		img, err := r.Get(t.Context(), digest)
		return err == nil && img.Reason == "" && img.IndexerState == r.State()
	})
	events := announced[schemas.ManifestIndexed](t, r.pool, schemas.TypeManifestIndexed)
	if last := events[len(events)-1]; !last.Reindexed {
		t.Errorf("announced %+v", last)
	}
}

// age makes a manifest look indexed by an older scanner state, as after an
// upgrade: claircore has to look at its layers again.
func (r *rig) age(t *testing.T, digest string) {
	t.Helper()
	for _, sql := range []string{
		`INSERT INTO tocsin.indexer_state (state, generation) OVERRIDING SYSTEM VALUE VALUES ('older', 0) ON CONFLICT DO NOTHING`,
		`DELETE FROM scanned_manifest`, `DELETE FROM scanned_layer`,
		`UPDATE tocsin.manifest SET indexer_state = 'older', attempted_state = '' WHERE digest = '` + digest + `'`,
	} {
		if _, err := r.pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
}

// Headers and signed query strings reach the server of the layer, and are never
// in the database in clear.
func TestAccessIsSealed(t *testing.T) {
	t.Parallel()
	content := tarOf(t, alpineWith("musl", "1"))
	var wrong atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer t0ken-of-mine" || r.Header.Get("X-Key") != "k3y-of-mine" || r.URL.Query().Get("signature") != "s1gned-by-me" {
			wrong.Add(1)
			http.Error(w, "", http.StatusForbidden)
			return
		}
		w.Write(content)
	}))
	t.Cleanup(srv.Close)
	p := newPlace(t)
	idle := p.newRig(t, nil)
	got := idle.submit(t, Request{Manifest: &Manifest{Digest: digestOf([]byte("m")), Layers: []Layer{{
		Digest: digestOf(content), URI: srv.URL + "/blob?signature=s1gned-by-me",
		Headers: map[string][]string{"Authorization": {"Bearer t0ken-of-mine"}, "x-key": {"k3y-of-mine"}},
	}}}})
	clear := func(text string) bool {
		return strings.Contains(text, "t0ken") || strings.Contains(text, "k3y-of") || strings.Contains(text, "s1gned")
	}
	if text := idle.stored(t); clear(text) {
		t.Errorf("the database has the secret: %s", text)
	}
	// Another replica, with the same key, indexes it.
	r := p.newRig(t, nil).run(t)
	if img := r.wait(t, got.Digest); img.State != StateIndexed || wrong.Load() != 0 {
		t.Errorf("image is %s: %s", img.State, img.Reason)
	}
	eventually(t, "what was sealed is gone", func() bool {
		var sealed bool
		err := r.pool.QueryRow(t.Context(), `SELECT sealed IS NOT NULL OR sealed_key <> '' FROM tocsin.manifest`).Scan(&sealed)
		return err == nil && !sealed
	})
	var spec json.RawMessage
	if err := r.pool.QueryRow(t.Context(), `SELECT spec FROM tocsin.manifest`).Scan(&spec); err != nil || clear(string(spec)) || !strings.Contains(string(spec), srv.URL+"/blob") {
		t.Errorf("spec %s, %v", spec, err)
	}
}
