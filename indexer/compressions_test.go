package indexer

import (
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// inForms is one image in several compressions, each with a name of its own.
func inForms(t *testing.T, what, config string, forms ...string) []Request {
	t.Helper()
	plain := tarOf(t, alpineWith(what, "1"))
	var out []Request
	for _, form := range forms {
		content := plain
		switch form {
		case "gzip":
			content = gzipped(t, plain)
		case "zstd":
			w, err := zstd.NewWriter(nil)
			if err != nil {
				t.Fatal(err)
			}
			content = w.EncodeAll(plain, nil)
		}
		srv := httptest.NewServer(serveBytes(content))
		t.Cleanup(srv.Close)
		out = append(out, Request{Names: []string{what + ":" + form}, Manifest: &Manifest{
			Digest: digestOf([]byte(what + form)), Config: config, Layers: []Layer{{Digest: digestOf(content), URI: srv.URL}},
		}})
	}
	return out
}

// twins lists the digests that are the same image in another compression.
func (r *rig) twins(t *testing.T, digest string) (out []string) {
	t.Helper()
	rows, err := r.pool.Query(t.Context(), `SELECT o.digest FROM tocsin.twin t JOIN tocsin.manifest m ON m.id = t.manifest_id
JOIN tocsin.manifest o ON o.id = t.twin_id WHERE m.digest = $1 ORDER BY o.digest`, digest)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var d string
		if err := rows.Scan(&d); err != nil {
			t.Fatal(err)
		}
		out = append(out, d)
	}
	return out
}

// One image in several compressions is known as one, and its names are those of
// all of them; another image with the same files is not it.
func TestCompressions(t *testing.T) {
	t.Parallel()
	r := newPlace(t).newRig(t, nil).run(t)
	index := func(reqs ...Request) {
		t.Helper()
		for _, q := range reqs {
			s := r.submit(t, q)
			if img := r.wait(t, s.Digest); img.State != StateIndexed {
				t.Fatalf("%+v", img)
			}
		}
	}
	configA, configB := digestOf([]byte("A")), digestOf([]byte("B"))
	known := inForms(t, "known", configA, "plain", "gzip", "zstd")
	index(known...)
	claimed := inForms(t, "claimed", "", "gzip", "zstd") // nobody said what its configuration is
	index(claimed...)
	// The same files as another image, which has another configuration.
	other := inForms(t, "known", configB, "gzip")[0]
	other.Manifest.Digest, other.Names = digestOf([]byte("other")), []string{"other:1"}
	index(other)
	// The same layers, under another digest: two images, for all that is known.
	again := claimed[0]
	m := *again.Manifest
	m.Digest = digestOf([]byte("again"))
	again.Manifest, again.Names = &m, []string{"again:1"}
	index(again)
	// Another platform is another image; so is a digest without a name.
	arm := inForms(t, "claimed", "", "plain")[0]
	arm.Manifest.Digest, arm.Labels = digestOf([]byte("arm")), map[string]string{platformLabel: "linux/arm64"}
	index(arm)
	bare := inForms(t, "claimed", "", "plain")[0]
	bare.Manifest.Digest, bare.Names = digestOf([]byte("bare")), nil
	index(bare)

	digests := func(reqs ...Request) (out []string) {
		for _, q := range reqs {
			out = append(out, q.Manifest.Digest)
		}
		slices.Sort(out)
		return out
	}
	check := func(of Request, names []string, twins ...Request) {
		t.Helper()
		if got, want := r.twins(t, of.Manifest.Digest), digests(twins...); !slices.Equal(got, want) {
			t.Errorf("%s is one with %q, want %q", of.Names, got, want)
		}
		eventually(t, "names are shared", func() bool {
			img, err := r.Get(t.Context(), of.Manifest.Digest)
			if err != nil {
				t.Fatal(err)
			}
			got := slices.Sorted(slices.Values(img.Names))
			return slices.Equal(got, names) && slices.Equal(img.Also, digests(twins...))
		})
	}
	all := []string{"known:gzip", "known:plain", "known:zstd"}
	check(known[0], all, known[1], known[2])
	check(known[1], all, known[0], known[2])
	check(known[2], all, known[0], known[1])
	check(other, []string{"other:1"})
	check(arm, []string{"claimed:plain"})
	check(bare, []string{})
	// again and claimed[0] have the same layers; claimed[1] is one with either.
	check(claimed[0], []string{"claimed:gzip", "claimed:zstd"}, claimed[1])
	check(again, []string{"again:1", "claimed:gzip", "claimed:zstd"}, claimed[1])

	// A name that comes later is shared, too, and what another compression goes
	// by is not superseded.
	known[0].Names = []string{"new:1"}
	r.submit(t, known[0])
	img, err := r.Get(t.Context(), known[2].Manifest.Digest)
	if err != nil || !slices.Contains(img.Names, "new:1") {
		t.Errorf("%+v, %v", img, err)
	}
	r.named(t, "moved", "", "known:gzip", "known:zstd")
	if img, err = r.Get(t.Context(), known[1].Manifest.Digest); err != nil || img.Superseded {
		t.Errorf("%+v, %v", img, err)
	}
	r.named(t, "moved", "", "known:plain", "new:1")
	if img, err = r.Get(t.Context(), known[1].Manifest.Digest); err != nil || !img.Superseded {
		t.Errorf("%+v, %v", img, err)
	}
}
