package ecosystem

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/quay/claircore"
	"github.com/quay/claircore/indexer"
)

// Dpkg is the scanner of dpkg's databases: every "dpkg/status", and every
// "status" beside a folder "info". It takes the place of claircore's, which
// wants both in one layer, takes packages of one name for one, and fails the
// image for an entry that is not complete.
type Dpkg struct{}

var _ indexer.PackageScanner = Dpkg{}

// Name implements [indexer.VersionedScanner].
func (Dpkg) Name() string { return "tocsin-dpkg" }

// Version implements [indexer.VersionedScanner].
func (Dpkg) Version() string { return "1" }

// Kind implements [indexer.VersionedScanner].
func (Dpkg) Kind() string { return "package" }

// Scan implements [indexer.PackageScanner].
func (Dpkg) Scan(ctx context.Context, l *claircore.Layer) ([]*claircore.Package, error) {
	sys, err := l.FS()
	if err != nil {
		return nil, fmt.Errorf("dpkg: %w", err)
	}
	var status []string
	info := map[string]bool{}
	err = fs.WalkDir(sys, ".", func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case d.IsDir() && d.Name() == "info":
			info[path.Dir(p)] = true
		case !d.IsDir() && d.Name() == "status":
			status = append(status, p)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("dpkg: %w", err)
	}
	var out []*claircore.Package
	for _, p := range status {
		if dir := path.Dir(p); path.Base(dir) != "dpkg" && !info[dir] {
			continue
		}
		found, err := statusPackages(sys, p)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a link out of the layer
		}
		if err != nil {
			return nil, fmt.Errorf("dpkg: %w", err)
		}
		out = append(out, found...)
	}
	return out, nil
}

// statusPackages reads one database. One of vcpkg's, which looks alike, has
// none of dpkg's packages.
func statusPackages(sys fs.FS, name string) ([]*claircore.Package, error) {
	byName := map[string]*claircore.Package{}
	vcpkg := false
	err := readStanzas(sys, name, func(fields map[string]string) {
		for _, k := range []string{"port-version", "default-features", "feature"} {
			if _, ok := fields[k]; ok {
				vcpkg = true
			}
		}
		if !present(fields["status"]) {
			return
		}
		if p := debianPackage(fields, name); p != nil {
			byName[p.Name+":"+p.Arch] = p
		}
	})
	if err != nil || vcpkg {
		return nil, err
	}
	return inOrder(byName), nil
}

func inOrder(byName map[string]*claircore.Package) []*claircore.Package {
	out := make([]*claircore.Package, 0, len(byName))
	for _, p := range byName {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b *claircore.Package) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Arch, b.Arch))
	})
	return out
}

// Distroless is the scanner of databases of one file a package, in folders
// called status.d. It takes the place of claircore's, which takes "Source" with
// a version for a name, and a package without it for one without a source.
type Distroless struct{}

var _ indexer.PackageScanner = Distroless{}

// Name implements [indexer.VersionedScanner].
func (Distroless) Name() string { return "tocsin-distroless" }

// Version implements [indexer.VersionedScanner].
func (Distroless) Version() string { return "1" }

// Kind implements [indexer.VersionedScanner].
func (Distroless) Kind() string { return "package" }

// Scan implements [indexer.PackageScanner].
func (Distroless) Scan(ctx context.Context, l *claircore.Layer) ([]*claircore.Package, error) {
	sys, err := l.FS()
	if err != nil {
		return nil, fmt.Errorf("distroless: %w", err)
	}
	var out []*claircore.Package
	err = fs.WalkDir(sys, ".", func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case d.IsDir(), path.Base(path.Dir(p)) != "status.d", strings.HasSuffix(p, ".md5sums"), strings.HasPrefix(d.Name(), whiteout):
			return nil
		}
		err = readStanzas(sys, p, func(fields map[string]string) {
			if s, ok := fields["status"]; ok && !present(s) {
				return
			}
			if pkg := debianPackage(fields, p); pkg != nil {
				out = append(out, pkg)
			}
		})
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("distroless: %w", err)
	}
	return out, nil
}
