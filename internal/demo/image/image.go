// Package image builds the demo's container image on the spot: a small Go
// program on old module versions, in a real OCI layout. It needs the Go
// toolchain and, the first time, a module proxy; no registry and no container
// engine.
package image

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Name is what the image is called in its layout.
const Name = "demo/shop:1.0"

// The program's go.mod is kept under another name: a directory with one would
// be a module of its own and could not be embedded.
//
//go:embed shop
var shop embed.FS

// ErrNoGo says that there is no Go toolchain to build the program with.
var ErrNoGo = errors.New("the demo's image is built with the Go toolchain, and there is no go command (install Go, or add it to PATH)")

// An Image is what [Build] built.
type Image struct {
	// Ref names the image for indexing: "oci:" and the layout's directory.
	Ref string
	// Digest is that of its manifest, "sha256:…".
	Digest string
}

// Build compiles the program and writes the image as an OCI layout into a new
// directory, dir/shop. It leaves no other file behind.
func Build(ctx context.Context, dir string) (Image, error) {
	binary, err := compile(ctx)
	if err != nil {
		return Image{}, fmt.Errorf("build the demo's program: %w", err)
	}
	img, err := assemble(binary)
	if err != nil {
		return Image{}, fmt.Errorf("assemble the demo's image: %w", err)
	}
	digest, err := img.Digest()
	if err != nil {
		return Image{}, fmt.Errorf("assemble the demo's image: %w", err)
	}
	path := filepath.Join(dir, "shop")
	l, err := layout.Write(path, empty.Index)
	if err == nil {
		err = l.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": Name}))
	}
	if err != nil {
		return Image{}, fmt.Errorf("write the demo's image: %w", err)
	}
	return Image{Ref: "oci:" + path, Digest: digest.String()}, nil
}

// compile returns the program's binary for Linux.
func compile(ctx context.Context) ([]byte, error) {
	tool, err := exec.LookPath("go")
	if err != nil {
		return nil, ErrNoGo
	}
	dir, err := os.MkdirTemp("", "tocsin-demo-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	for _, name := range []string{"main.go", "go.mod", "go.sum"} {
		from := name
		if name != "main.go" {
			from += ".txt"
		}
		data, err := shop.ReadFile("shop/" + from)
		if err != nil {
			return nil, err
		}
		// The tag keeps the program out of this module's builds.
		data = bytes.TrimPrefix(data, []byte("//go:build ignore\n"))
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return nil, err
		}
	}
	cmd := exec.CommandContext(ctx, tool, "build", "-trimpath", "-o", "shop", ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+runtime.GOARCH, "GOFLAGS=", "GOWORK=off", "GO111MODULE=on")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build: %w: %s", cmp.Or(ctx.Err(), err), bytes.TrimSpace(out))
	}
	return os.ReadFile(filepath.Join(dir, "shop"))
}

// assemble makes an image of two layers: a system's identity, and the program.
// The same program gives the same digest.
func assemble(binary []byte) (v1.Image, error) {
	osRelease := strings.Join([]string{
		`NAME="Tocsin demo"`, `ID=tocsin-demo`, `VERSION_ID="1"`, `PRETTY_NAME="Tocsin demo system"`, "",
	}, "\n")
	base, err := layer(tar.Header{Name: "etc/os-release", Mode: 0o644}, []byte(osRelease))
	if err != nil {
		return nil, err
	}
	program, err := layer(tar.Header{Name: "usr/bin/shop", Mode: 0o755}, binary)
	if err != nil {
		return nil, err
	}
	img, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1), base, program)
	if err != nil {
		return nil, err
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture = "linux", runtime.GOARCH
	cfg.Config.Entrypoint = []string{"/usr/bin/shop"}
	return mutate.ConfigFile(mutate.ConfigMediaType(img, types.OCIConfigJSON), cfg)
}

// layer returns a layer with one file and its directories.
func layer(file tar.Header, data []byte) (v1.Layer, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for i, c := range file.Name {
		if c == '/' {
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: file.Name[:i+1], Mode: 0o755, ModTime: at}); err != nil {
				return nil, err
			}
		}
	}
	file.Typeflag, file.Size, file.ModTime = tar.TypeReg, int64(len(data)), at
	if err := w.WriteHeader(&file); err != nil {
		return nil, err
	}
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer))
}
