package indexer

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/quay/claircore"

	"tocsin.dev/tocsin/indexer/sandbox"
)

// maxKeyBytes is how much PostgreSQL surely takes as one entry of an index:
// claircore's tables have unique indexes over all of a package's names.
const maxKeyBytes = 2000

// keepStorable drops what the database would refuse, which would fail the
// whole image for ever, and counts it. Files are of no account if they are kept
// packed.
func keepStorable(r *sandbox.Result, files bool) int {
	before := len(r.Packages) + len(r.Distributions) + len(r.Repositories) + len(r.Files)
	r.Packages = slices.DeleteFunc(r.Packages, func(p *claircore.Package) bool { return !storablePackage(p) })
	r.Distributions = slices.DeleteFunc(r.Distributions, func(d *claircore.Distribution) bool {
		return !storable(d.DID, d.Name, d.Version, d.VersionCodeName, d.VersionID, d.Arch, d.PrettyName)
	})
	r.Repositories = slices.DeleteFunc(r.Repositories, func(p *claircore.Repository) bool { return !storable(p.Name, p.Key, p.URI) })
	if files {
		r.Files = slices.DeleteFunc(r.Files, func(f claircore.File) bool { return !storable(f.Path) })
	}
	return before - len(r.Packages) - len(r.Distributions) - len(r.Repositories) - len(r.Files)
}

func storablePackage(p *claircore.Package) bool {
	if !storable(p.Name, p.Version, string(p.Kind.String()), p.Module, p.Arch) || !storable(p.PackageDB) || !storable(p.Filepath) || !storable(p.RepositoryHint) {
		return false
	}
	return p.Source == nil || storablePackage(p.Source)
}

// storable reports whether all are text and short enough together.
func storable(fields ...string) bool {
	size := 0
	for _, f := range fields {
		size += len(f)
		if !utf8.ValidString(f) || strings.ContainsRune(f, 0) {
			return false
		}
	}
	return size <= maxKeyBytes
}
