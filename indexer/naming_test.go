package indexer

import (
	"errors"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"tocsin.dev/tocsin/indexer/image"
)

// meaning is what a name stands for: "platform digest".
func (r *rig) meaning(t *testing.T, name string) []string {
	t.Helper()
	found, err := r.Find(t.Context(), name)
	if err != nil && !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	var out []string
	for _, m := range found {
		out = append(out, m.Platform+" "+m.Digest)
	}
	return out
}

// A name stands for what it was last given to, on each platform.
func TestNames(t *testing.T) {
	t.Parallel()
	r := newPlace(t).newRig(t, nil)
	named := func(digest, platform string) {
		t.Helper()
		req := one(t, digest)
		req.Names = []string{"app:1"}
		if platform != "" {
			req.Labels = map[string]string{platformLabel: platform}
		}
		r.submit(t, req)
	}
	d := func(name string) string { return digestOf([]byte("manifest of " + name)) }
	check := func(want ...string) {
		t.Helper()
		if got := r.meaning(t, "app:1"); !slices.Equal(got, want) {
			t.Errorf("app:1 is %q, want %q", got, want)
		}
	}
	check()
	named("a", "")
	check(" " + d("a"))
	named("b", "")
	check(" " + d("b"))
	named("a", "") // again: nothing is new about it but the name
	check(" " + d("a"))
	named("c", "linux/amd64")
	check("linux/amd64 " + d("c"))
	named("d", "linux/arm64")
	check("linux/amd64 "+d("c"), "linux/arm64 "+d("d"))
	named("e", "linux/amd64")
	check("linux/amd64 "+d("e"), "linux/arm64 "+d("d"))
	if _, err := r.Delete(t.Context(), d("e")); err != nil {
		t.Fatal(err)
	}
	check("linux/arm64 " + d("d"))
	named("f", "")
	check(" " + d("f"))
	// Every name a manifest had is kept with it.
	if img, err := r.Get(t.Context(), d("c")); err != nil || !slices.Equal(img.Names, []string{"app:1"}) {
		t.Errorf("%+v, %v", img, err)
	}
}

// What a registry says of a name and of a digest holds against what others
// say, whoever comes first.
func TestClaims(t *testing.T) {
	t.Parallel()
	l := login{"robot", "s3cret"}
	host, _ := privateRegistry(t, l)
	ref := host + "/prod/app:1"
	index := func(of map[string]string) v1.ImageIndex {
		var idx v1.ImageIndex = empty.Index
		for platform, version := range of {
			p, err := v1.ParsePlatform(platform)
			if err != nil {
				t.Fatal(err)
			}
			idx = mutate.AppendManifests(idx, mutate.IndexAddendum{Add: imageOf(t, platform, alpineWith("musl", version)), Descriptor: v1.Descriptor{Platform: p}})
		}
		return idx
	}
	img := imageOf(t, "linux/amd64", alpineWith("busybox", "1"))
	push(t, ref, img, l)
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	r := newPlace(t).newRig(t, func(o *Options) { o.Keychain = l }).run(t)

	// The digest claimed for harmless layers, before anybody asked the registry.
	poison := one(t, "harmless")
	poison.Names, poison.Manifest.Digest = []string{ref}, digest.String()
	if got := r.wait(t, r.submit(t, poison).Digest); got.State != StateIndexed || got.Packages != 1 || got.Verified {
		t.Fatalf("%+v", got)
	}
	got, err := r.Submit(t.Context(), Request{Image: ref})
	if err != nil || len(got) != 1 || got[0].Job.Key == "" {
		t.Fatalf("Submit = %+v, %v", got, err)
	}
	if got := r.wait(t, digest.String()); got.State != StateIndexed || got.Packages != 1 || !got.Verified {
		t.Errorf("the registry's image is %s with %d packages, verified %t: %s", got.State, got.Packages, got.Verified, got.Reason)
	}
	if got := r.packages(t, digest.String()); !slices.Equal(got, []string{"busybox 1"}) {
		t.Errorf("packages %q", got)
	}
	// Afterwards the claim is refused, deleted or not.
	if _, err := r.Submit(t.Context(), poison); !errors.Is(err, ErrOtherLayers) {
		t.Errorf("Submit = %v, want ErrOtherLayers", err)
	}
	// Nor can the name be given to something else.
	other := one(t, "other")
	other.Names = []string{ref}
	r.submit(t, other)
	if got := r.meaning(t, ref); !slices.Equal(got, []string{"linux/amd64 " + digest.String()}) {
		t.Errorf("%s is %q", ref, got)
	}
	// The registry may: of the platforms it has no more, none is left.
	for _, of := range []map[string]string{{"linux/amd64": "2", "linux/arm64": "2"}, {"linux/arm64": "3"}} {
		push(t, ref, index(of), l)
		got, err := r.Submit(t.Context(), Request{Image: ref})
		if err != nil || len(got) != len(of) {
			t.Fatalf("Submit = %+v, %v", got, err)
		}
		if now := r.meaning(t, ref); len(now) != len(of) {
			t.Errorf("%s is %q, want %d platforms", ref, now, len(of))
		}
	}
	if _, err := r.Submit(t.Context(), Request{Image: ref, Platforms: []string{"linux/s390x"}}); err == nil {
		t.Error("a platform that the image has not was accepted")
	} else if _, ok := errors.AsType[*image.Error](err); !ok {
		t.Errorf("Submit = %v", err)
	}
}

// Layers that a registry shows while those that somebody claimed are being
// indexed are indexed afterwards, though the job is the same.
func TestReplacedWhileIndexed(t *testing.T) {
	t.Parallel()
	l := login{"robot", "s3cret"}
	host, _ := privateRegistry(t, l)
	ref := host + "/prod/app:1"
	img := imageOf(t, "linux/amd64", alpineWith("busybox", "1"))
	push(t, ref, img, l)
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	r := newPlace(t).newRig(t, func(o *Options) { o.Keychain = l })
	r.during = func(Indexed) {
		if _, err := r.Submit(t.Context(), Request{Image: ref}); err != nil {
			t.Error(err)
		}
	}
	r.run(t)
	poison := one(t, "harmless")
	poison.Names, poison.Manifest.Digest = nil, digest.String()
	r.submit(t, poison)
	eventually(t, "both are indexed", func() bool { return r.records(digest.String()) == 2 })
	if got := r.packages(t, digest.String()); !slices.Equal(got, []string{"busybox 1"}) {
		t.Errorf("packages %q", got)
	}
	eventually(t, "nothing is left to do", func() bool {
		var left bool
		if err := r.pool.QueryRow(t.Context(), `SELECT replaced FROM tocsin.manifest WHERE digest = $1`, digest.String()).Scan(&left); err != nil {
			t.Fatal(err)
		}
		return !left
	})
}

// A name without its tag finds what its only tag stands for; of several, the
// error lists them.
func TestNameWithoutTag(t *testing.T) {
	t.Parallel()
	r := newPlace(t).newRig(t, nil)
	one := r.named(t, "a", "", "registry.example:5000/team/app:1")
	r.named(t, "b", "", "registry.example:5000/team/app/sub:1") // another repository
	look := func(ref string) (string, error) {
		found, err := r.Lookup(t.Context(), ref)
		if err != nil {
			return "", err
		}
		return found[0].Digest, nil
	}
	if got, err := look("registry.example:5000/team/app"); err != nil || got != one {
		t.Errorf("its only tag: %q, %v", got, err)
	}
	for _, ref := range []string{"registry.example:5000/team/app:2", "registry.example:5000/team", "registry.example", "team/app", "", "app%"} {
		if got, err := look(ref); !errors.Is(err, ErrNotFound) {
			t.Errorf("%q finds %q, %v", ref, got, err)
		}
	}
	r.named(t, "c", "", "registry.example:5000/team/app:2")
	_, err := look("registry.example:5000/team/app")
	if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "/app:1, registry.example:5000/team/app:2") {
		t.Errorf("two tags: %v", err)
	}
	exact := r.named(t, "d", "", "registry.example:5000/team/app")
	if got, err := look("registry.example:5000/team/app"); err != nil || got != exact {
		t.Errorf("the name itself: %q, %v", got, err)
	}
	if _, err := r.Find(t.Context(), "registry.example:5000/team/app/sub"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Find is exact: %v", err)
	}
}
