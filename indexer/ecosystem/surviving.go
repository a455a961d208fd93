package ecosystem

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/quay/claircore"
	"github.com/quay/claircore/indexer"
)

// Listings answers what a layer does to the file system, as [Files] listed it.
type Listings interface {
	FilesByLayer(ctx context.Context, layer claircore.Digest, scanners indexer.VersionedScanners) ([]claircore.File, error)
}

// ErrUnlisted is the error of [Listings] for a layer whose files could not be
// listed.
var ErrUnlisted = errors.New("the layer's files are not known")

// surviving hands a coalescer only what is still there with all layers applied.
type surviving struct {
	indexer.Coalescer
	listings Listings
}

// Coalesce implements [indexer.Coalescer].
func (s *surviving) Coalesce(ctx context.Context, layers []*indexer.LayerArtifacts) (*claircore.IndexReport, error) {
	left, err := s.filter(ctx, layers)
	if err != nil {
		return nil, err
	}
	return s.Coalescer.Coalesce(ctx, left)
}

func (s *surviving) filter(ctx context.Context, layers []*indexer.LayerArtifacts) ([]*indexer.LayerArtifacts, error) {
	found := make([]map[string]bool, len(layers))
	any := false
	for i, l := range layers {
		found[i] = map[string]bool{}
		for _, p := range l.Pkgs {
			found[i][evidence(p)] = true
			any = true
		}
		if len(l.Dist) > 0 {
			for _, p := range releaseFiles {
				found[i][p] = true
			}
			any = true
		}
	}
	if len(layers) < 2 || !any {
		return layers, nil
	}
	listings := make([][]claircore.File, len(layers))
	for i, l := range layers {
		files, err := s.listings.FilesByLayer(ctx, l.Hash, indexer.VersionedScanners{Files{}})
		if errors.Is(err, ErrUnlisted) {
			// What was found in it is there, as far as anybody knows.
			files, err = nil, nil
			for _, p := range slices.Sorted(maps.Keys(found[i])) {
				files = append(files, claircore.File{Path: p, Kind: KindFile})
			}
		}
		if err != nil {
			return nil, fmt.Errorf("files of layer %s: %w", l.Hash, err)
		}
		listings[i] = files
	}
	alive := survivors(listings, found)
	out := make([]*indexer.LayerArtifacts, len(layers))
	for i, l := range layers {
		left := *l
		left.Pkgs = slices.DeleteFunc(slices.Clone(l.Pkgs), func(p *claircore.Package) bool { return !alive[i][evidence(p)] })
		out[i] = &left
	}
	return presentRelease(out, listings), nil
}

// evidence is the file that a scanner found a package in.
func evidence(p *claircore.Package) string {
	if p.Filepath != "" {
		return p.Filepath
	}
	kind, dir, ok := strings.Cut(p.PackageDB, ":")
	if !ok {
		return p.PackageDB
	}
	if file, ok := rpmDatabases[kind]; ok {
		return path.Join(dir, file)
	}
	return dir
}

// rpmDatabases are the files of RPM's databases, by what claircore calls their
// kinds.
var rpmDatabases = map[string]string{"sqlite": "rpmdb.sqlite", "bdb": "Packages", "ndb": "Packages.db"}

// presentRelease leaves the distribution to the layer whose release file is in
// force at the end: what is installed belongs to the system as it is now,
// whichever layer it came with. If none is in force, because the files were
// removed to make the image small, all stay.
func presentRelease(layers []*indexer.LayerArtifacts, listings [][]claircore.File) []*indexer.LayerArtifacts {
	t := newTree()
	for i, files := range listings {
		t.apply(i, files)
	}
	for _, p := range releaseFiles {
		n := t.find(p)
		if n == nil || n.children != nil || len(layers[n.layer].Dist) == 0 {
			continue
		}
		for i, l := range layers {
			if i != n.layer {
				l.Dist = nil
			}
		}
		break
	}
	return layers
}
