package indexer

import (
	"maps"
	"slices"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/quay/claircore"

	"tocsin.dev/tocsin/indexer/image"
	"tocsin.dev/tocsin/schemas"
)

// upload puts the images of a reference into the rig's blob store.
func (r *rig) upload(t *testing.T, ref string) []Request {
	t.Helper()
	images, err := image.Open(ref, nil)
	if err != nil {
		t.Fatal(err)
	}
	var out []Request
	for _, img := range images {
		m := &Manifest{Digest: img.Digest}
		for _, l := range img.Layers {
			m.Layers = append(m.Layers, Layer{Digest: l.Digest, URI: l.URI})
			if l.Local() {
				r.put(t, l)
			}
		}
		out = append(out, Request{Manifest: m, Names: img.Names})
	}
	return out
}

// put puts a layer into the rig's blob store, as a client's upload does.
func (r *rig) put(t *testing.T, l image.Layer) {
	t.Helper()
	if _, err := r.blobs.Stat(t.Context(), l.Digest); err == nil {
		return
	}
	f, err := l.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := r.blobs.Put(t.Context(), l.Digest, f); err != nil {
		t.Fatal(err)
	}
}

// submit submits a request for one manifest and returns its digest.
func (r *rig) submit(t *testing.T, req Request) Submitted {
	t.Helper()
	out, err := r.Submit(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if len(out) != 1 {
		t.Fatalf("%d manifests, want 1", len(out))
	}
	return out[0]
}

// packages returns "name version" of a manifest's index report, sorted.
func (r *rig) packages(t *testing.T, digest string) []string {
	t.Helper()
	report, ok, err := r.IndexReport(t.Context(), claircore.MustParseDigest(digest))
	if err != nil || !ok || !report.Success {
		t.Fatalf("index report of %s: %v, %t, %+v", digest, err, ok, report)
	}
	var out []string
	for p := range maps.Values(report.Packages) {
		out = append(out, p.Name+" "+p.Version)
	}
	slices.Sort(out)
	return out
}

// An OCI layout with a Go binary on an Alpine base, through blob store, job and
// recorder.
func TestLayout(t *testing.T) {
	t.Parallel()
	bin, err := goBinary()
	if err != nil {
		t.Fatal(err)
	}
	r := newPlace(t).newRig(t, nil).run(t)
	img := imageOf(t, "linux/amd64", alpineWith("musl", "1.2.4-r1"), map[string]string{"usr/bin/app": bin})
	dir := layoutOf(t, map[string]v1.Image{"team/app:1": img})
	req := r.upload(t, "oci:"+dir)[0]
	req.Labels = map[string]string{"team": "blue"}
	got := r.submit(t, req)
	if got.Known || got.Job.Key != got.Digest {
		t.Errorf("a new manifest was submitted as %+v", got)
	}
	found := r.wait(t, got.Digest)
	if found.State != StateIndexed || found.Packages == 0 || found.IndexerState != r.State() || found.IndexedAt == nil || len(found.Warnings) != 0 {
		t.Errorf("image %+v", found)
	}
	if !slices.Equal(found.Names, []string{"team/app:1"}) || found.Labels["team"] != "blue" {
		t.Errorf("names %q, labels %q", found.Names, found.Labels)
	}
	packages := r.packages(t, got.Digest)
	if !slices.Contains(packages, "musl 1.2.4-r1") || !slices.ContainsFunc(packages, func(p string) bool { return len(p) > 17 && p[:17] == "golang.org/x/text" }) {
		t.Errorf("packages %q", packages)
	}
	events := announced[schemas.ManifestIndexed](t, r.pool, schemas.TypeManifestIndexed)
	if len(events) != 1 || events[0].Manifest.Digest != got.Digest || events[0].Packages != found.Packages || events[0].Reindexed {
		t.Errorf("events %+v", events)
	}

	// The same again is no work; another name is a new naming.
	again := r.submit(t, req)
	if !again.Known || again.Job.Key != "" {
		t.Errorf("a known manifest was submitted as %+v", again)
	}
	req.Names, req.Labels = []string{"team/app:1", "team/app:latest"}, map[string]string{"team": "red", "tier": "1"}
	if again = r.submit(t, req); again.Job.Key != "" {
		t.Errorf("another name caused the job %+v", again.Job)
	}
	if found, err = r.Get(t.Context(), "team/app:latest"); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(found.Names, []string{"team/app:1", "team/app:latest"}) || !maps.Equal(found.Labels, map[string]string{"team": "red", "tier": "1"}) {
		t.Errorf("merged to names %q, labels %q", found.Names, found.Labels)
	}
	var namings int
	if err := r.pool.QueryRow(t.Context(), `SELECT count(*) FROM tocsin.naming`).Scan(&namings); err != nil || namings != 2 {
		t.Errorf("%d namings, %v; want 2", namings, err)
	}
	if n := r.records(got.Digest); n != 1 {
		t.Errorf("the inventory was recorded %d times", n)
	}
}
