package ecosystem

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/quay/claircore"
	"github.com/quay/claircore/indexer"
	"github.com/quay/claircore/rhel"
)

// entry is one entry of a layer's archive. A name that ends in a slash is a
// directory's.
type entry struct {
	name, content string
	link          string // of a symbolic link
	hard          string // of a hard link
}

type layerFiles []entry

// archive is the layer as a tar.
func (l layerFiles) archive(t testing.TB) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range l {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: e.name, Mode: 0o755, Size: int64(len(e.content))}
		switch {
		case strings.HasSuffix(e.name, "/"):
			h.Typeflag = tar.TypeDir
		case e.link != "":
			h.Typeflag, h.Linkname = tar.TypeSymlink, e.link
		case e.hard != "":
			h.Typeflag, h.Linkname = tar.TypeLink, e.hard
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// extract unpacks layers into a directory one after another, as a container
// runtime does.
func extract(t testing.TB, root string, layers []layerFiles) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range layers {
		for _, e := range l {
			dir, base := path.Split(e.name)
			gone, ok := strings.CutPrefix(base, ".wh.")
			if !ok {
				continue
			}
			at := within(t, root, dir)
			if gone == ".wh..opq" {
				left, _ := os.ReadDir(at)
				for _, f := range left {
					must(os.RemoveAll(filepath.Join(at, f.Name())))
				}
				continue
			}
			must(os.RemoveAll(filepath.Join(at, gone)))
		}
		for _, e := range l {
			dir, base := path.Split(strings.TrimSuffix(e.name, "/"))
			if strings.HasPrefix(base, ".wh.") {
				continue
			}
			at := filepath.Join(within(t, root, dir), base)
			if strings.HasSuffix(e.name, "/") {
				if fi, err := os.Lstat(at); err == nil && !fi.IsDir() {
					must(os.Remove(at))
				}
				must(os.MkdirAll(at, 0o755))
				continue
			}
			must(os.RemoveAll(at))
			switch {
			case e.link != "":
				must(os.Symlink(e.link, at))
			case e.hard != "":
				must(os.Link(filepath.Join(within(t, root, path.Dir(e.hard)), path.Base(e.hard)), at))
			default:
				must(os.WriteFile(at, []byte(e.content), 0o755))
			}
		}
	}
}

// within is where a directory's name leads to below root, through the symbolic
// links that are there. Directories that are missing are made, a file in the
// way of one is replaced.
func within(t testing.TB, root, name string) string {
	t.Helper()
	at := root
	parts := strings.Split(strings.Trim(name, "/"), "/")
	for hops := 0; len(parts) > 0; {
		part := parts[0]
		parts = parts[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			if at != root {
				at = filepath.Dir(at)
			}
			continue
		}
		next := filepath.Join(at, part)
		fi, err := os.Lstat(next)
		switch {
		case err == nil && fi.Mode()&os.ModeSymlink != 0:
			if hops++; hops > 40 {
				t.Fatal("links in a circle")
			}
			to, err := os.Readlink(next)
			if err != nil {
				t.Fatal(err)
			}
			if path.IsAbs(to) {
				at = root
			}
			parts = append(strings.Split(strings.Trim(to, "/"), "/"), parts...)
			continue
		case err == nil && !fi.IsDir():
			if err := os.Remove(next); err != nil {
				t.Fatal(err)
			}
			fallthrough
		case err != nil:
			if err := os.Mkdir(next, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		at = next
	}
	return at
}

// indexed is what the ecosystems find in an image, as "name@version", sorted
// and each once, with its distributions.
func indexed(t testing.TB, layers []layerFiles) (packages []string, report *claircore.IndexReport) {
	t.Helper()
	ctx := t.Context()
	ls := make([]*claircore.Layer, len(layers))
	lists := listings{}
	for i, l := range layers {
		b := l.archive(t)
		sum := sha256.Sum256(b)
		ls[i] = new(claircore.Layer)
		desc := claircore.LayerDescription{Digest: "sha256:" + hex.EncodeToString(sum[:]), MediaType: "application/vnd.oci.image.layer.v1.tar"}
		if err := ls[i].Init(ctx, &desc, bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
		defer ls[i].Close()
		files, err := Files{}.Scan(ctx, ls[i])
		if err != nil {
			t.Fatal(err)
		}
		lists[ls[i].Hash.String()] = files
	}
	ids := map[string]string{}
	id := func(key string) string {
		if ids[key] == "" {
			ids[key] = fmt.Sprint(len(ids) + 1)
		}
		return ids[key]
	}
	report = &claircore.IndexReport{
		Packages: map[string]*claircore.Package{}, Environments: map[string][]*claircore.Environment{},
		Distributions: map[string]*claircore.Distribution{}, Repositories: map[string]*claircore.Repository{},
	}
	for _, e := range All(ctx, lists, rhel.NewEcosystem(ctx)) {
		artifacts := make([]*indexer.LayerArtifacts, len(ls))
		for i, l := range ls {
			artifacts[i] = scan(t, e, l, id)
		}
		c, err := e.Coalescer(ctx)
		if err != nil {
			t.Fatal(err)
		}
		r, err := c.Coalesce(ctx, artifacts)
		if err != nil {
			t.Fatal(err)
		}
		for k, p := range r.Packages {
			report.Packages[k] = p
			report.Environments[k] = append(report.Environments[k], r.Environments[k]...)
		}
		for k, d := range r.Distributions {
			report.Distributions[k] = d
		}
	}
	for _, p := range report.Packages {
		packages = append(packages, p.Name+"@"+p.Version)
	}
	slices.Sort(packages)
	return slices.Compact(packages), report
}

// scan runs the scanners of an ecosystem on a layer, and gives what they find
// ids by what claircore's store tells packages apart by.
func scan(t testing.TB, e *indexer.Ecosystem, l *claircore.Layer, id func(string) string) *indexer.LayerArtifacts {
	t.Helper()
	ctx := t.Context()
	out := &indexer.LayerArtifacts{Hash: l.Hash}
	packages, err := e.PackageScanners(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range packages {
		found, err := s.Scan(ctx, l)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range found {
			p.ID = id(fmt.Sprintf("package %s %s %s %s", p.Name, p.Version, p.Kind, p.Arch))
		}
		out.Pkgs = append(out.Pkgs, found...)
		if d, ok := s.(indexer.DefaultRepoScanner); ok && len(found) > 0 {
			repo := *d.DefaultRepository(ctx)
			repo.ID = id("repository " + repo.Name)
			out.Repos = append(out.Repos, &repo)
		}
	}
	distributions, err := e.DistributionScanners(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range distributions {
		found, err := s.Scan(ctx, l)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range found {
			own := *d
			own.ID = id("distribution " + d.PrettyName + d.DID + d.VersionID)
			out.Dist = append(out.Dist, &own)
		}
	}
	return out
}

type listings map[string][]claircore.File

func (l listings) FilesByLayer(_ context.Context, layer claircore.Digest, _ indexer.VersionedScanners) ([]claircore.File, error) {
	return l[layer.String()], nil
}
