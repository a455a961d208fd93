package indexer

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/quay/claircore"

	"tocsin.dev/tocsin/indexer/layertar"
)

// Limits on single files.
const (
	maxArchiveBytes = 1 << 30   // of one Java archive, which is read whole
	maxRecordBytes  = 128 << 20 // of one file of a package database or the like
)

// normalize returns a layer's archive as claircore's reader can read it: the
// one that was fetched, or one written anew. The one that is not returned is
// closed.
func (a *arena) normalize(f *os.File, l *claircore.Layer) (*os.File, error) {
	tree, err := a.tree(f)
	if err != nil {
		f.Close()
		return nil, a.unreadable(l, err)
	}
	if !tree.Odd() {
		return f, nil
	}
	defer f.Close()
	clean, err := a.rewrite(tree, nil)
	if err != nil {
		return nil, a.unreadable(l, err)
	}
	return clean, nil
}

// tree reads a layer's archive.
func (a *arena) tree(f *os.File) (*layertar.Tree, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	return layertar.Read(f, size, layertar.Limits{Entries: a.limits.MaxEntries, Bytes: a.limits.MaxUnpackedBytes, File: maxFile})
}

// rewrite writes an archive anew, but for the files that skip names.
func (a *arena) rewrite(tree *layertar.Tree, skip func(string) bool) (*os.File, error) {
	w, r, err := a.nameless()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	if err := tree.Write(w, skip); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// unreadable makes a [FetchError] of what is wrong with an archive, but for
// failures of this machine.
func (a *arena) unreadable(l *claircore.Layer, err error) error {
	if _, local := errors.AsType[*os.PathError](err); local {
		return fmt.Errorf("spool a layer: %w", err)
	}
	return permanent(l, err.Error())
}

// rpmFiles are the files of rpm's databases. Scanners of other ecosystems read
// them, too, to leave out what came in a package.
var rpmFiles = []string{"Packages", "Packages.db", "rpmdb.sqlite"}

func isRPMFile(name string) bool { return slices.Contains(rpmFiles, path.Base(name)) }

// withoutRPM returns a layer's archive without rpm's databases; nil if it has
// none.
func (a *arena) withoutRPM(f *os.File) (*os.File, error) {
	tree, err := a.tree(f)
	if err != nil || !tree.Has(isRPMFile) {
		return nil, err
	}
	return a.rewrite(tree, isRPMFile)
}

// recordNames are files that claircore reads into memory whole, or by lines of
// any length.
var recordNames = []string{"os-release", "issue", "installed", "status", "available", "package.json", "METADATA", "PKG-INFO"}

// maxFile is how large a file of the name may be: claircore reads some kinds
// whole.
func maxFile(name string) int64 {
	switch ext := path.Ext(name); {
	case slices.Contains([]string{".jar", ".war", ".ear", ".jpi", ".hpi"}, ext):
		return maxArchiveBytes
	case slices.Contains([]string{".egg-info", ".gemspec", ".md5sums", ".list"}, ext),
		slices.Contains(recordNames, path.Base(name)),
		strings.Contains(name, "buildinfo/"), strings.Contains(name, "dpkg/status.d/"):
		return maxRecordBytes
	default:
		return 1 << 62
	}
}
