package image

import (
	"archive/tar"
	"debug/buildinfo"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// TestBuild: the layout is a valid image whose program says which modules it
// was built from.
func TestBuild(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	got, err := Build(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	path, ok := strings.CutPrefix(got.Ref, "oci:")
	if !ok || !strings.HasPrefix(got.Digest, "sha256:") {
		t.Fatalf("built %+v", got)
	}
	index, err := layout.ImageIndexFromPath(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	m, err := index.IndexManifest()
	if err != nil || len(m.Manifests) != 1 || m.Manifests[0].Digest.String() != got.Digest {
		t.Fatalf("the layout has %+v (%v)", m, err)
	}
	img, err := index.Image(m.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil || len(layers) != 2 {
		t.Fatalf("%d layers (%v)", len(layers), err)
	}
	r, err := layers[1].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	binary := filepath.Join(t.TempDir(), "shop")
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		data, err := io.ReadAll(tr)
		if err == nil {
			err = os.WriteFile(binary, data, 0o700)
		}
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	versions := make(map[string]string)
	for _, d := range info.Deps {
		versions[d.Path] = d.Version
	}
	for module, version := range map[string]string{
		"github.com/golang-jwt/jwt/v4": "v4.4.1", "github.com/gorilla/websocket": "v1.4.2", "gopkg.in/yaml.v2": "v2.2.2",
	} {
		if versions[module] != version {
			t.Errorf("%s is %q, want %s", module, versions[module], version)
		}
	}
	if info.Main.Path != "tocsin.dev/demo/shop" {
		t.Errorf("the program is %q", info.Main.Path)
	}
}

func TestBuildWithoutGo(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := Build(t.Context(), t.TempDir()); !errors.Is(err, ErrNoGo) {
		t.Errorf("without a toolchain: %v", err)
	}
}
