package indexer

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/quay/claircore"
)

// Limits on what claircore would hold in memory at once.
const (
	// maxTreePerEntry is how many bytes of names a layer may have for each
	// entry it may have.
	maxTreePerEntry = 1 << 10
	maxArchiveBytes = 1 << 30   // of one Java archive, which is read whole
	maxRecordBytes  = 128 << 20 // of one file of a package database or the like
	maxLinkHops     = 255
	// maxVisits bounds the directory entries that are looked through while
	// the tree is built. At about a microsecond each, it is a few minutes.
	maxVisits = 200_000_000
)

const blockSize = 512

// checkTar walks an unpacked layer block by block, the way claircore's tarfs
// does, and refuses what that can't cope with: it holds every header in memory,
// never returns from some crafted archives, and says little about damaged ones.
// Package archive/tar alone won't do as a check, since it does not always see
// the same entries.
func (a *arena) checkTar(f *os.File, l *claircore.Layer) error {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("spool a layer: %w", err)
	}
	w := tarWalk{r: f, size: size}
	t := newTree(a.limits.MaxEntries)
	for {
		h, err := w.next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err == nil:
			err = t.add(h)
		}
		if _, local := errors.AsType[*os.PathError](err); local {
			return fmt.Errorf("spool a layer: %w", err)
		}
		if err != nil {
			return permanent(l, err.Error())
		}
	}
}

// tarWalk finds the entries of a tar archive.
type tarWalk struct {
	r     io.ReaderAt
	size  int64
	off   int64 // of the next block to read
	start int64 // of the entry it belongs to: extended headers come first
	seen  bool  // an entry was found
}

var errCutOff = errors.New("its tar archive is cut off")

// next returns the header of the next entry, or io.EOF.
func (w *tarWalk) next() (*tar.Header, error) {
	var b [blockSize]byte
	for {
		if w.off >= w.size {
			return nil, io.EOF // many an archive lacks its end
		}
		if w.size-w.off < blockSize {
			return nil, w.damage(errCutOff)
		}
		if _, err := w.r.ReadAt(b[:], w.off); err != nil {
			return nil, err
		}
		if b == ([blockSize]byte{}) {
			return nil, io.EOF
		}
		if !bytes.HasPrefix(b[257:], []byte("ustar")) {
			return nil, w.damage(fmt.Errorf("its tar archive is damaged: no header at byte %d", w.off))
		}
		n, ok := tarNumber(b[124:136])
		if !ok {
			return nil, w.damage(fmt.Errorf("its tar archive is damaged: the size at byte %d is no number", w.off))
		}
		if n > w.size-w.off-blockSize {
			return nil, w.damage(errCutOff)
		}
		w.off += blockSize + (n+blockSize-1)/blockSize*blockSize
		switch b[156] {
		case tar.TypeXHeader, tar.TypeGNULongName, tar.TypeGNULongLink, tar.TypeGNUSparse:
			continue // belongs to the entry that follows
		case tar.TypeReg, '\x00', tar.TypeLink, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeDir, tar.TypeFifo, tar.TypeCont:
		default:
			w.start = w.off
			continue
		}
		h, err := tar.NewReader(io.NewSectionReader(w.r, w.start, w.off-w.start)).Next()
		w.start, w.seen = w.off, true
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return nil, fmt.Errorf("its tar archive is damaged: the entry before byte %d has no proper header", w.off)
		}
		return h, nil
	}
}

// damage says of an archive without a single entry that it is none.
func (w *tarWalk) damage(err error) error {
	if !w.seen {
		return errors.New("it is not a tar archive")
	}
	return err
}

// tarNumber reads a size: octal text, or base 256 if the first bit is set. A
// negative one is none.
func tarNumber(field []byte) (int64, bool) {
	if field[0]&0x80 != 0 {
		if field[0] != 0x80 || binary.BigEndian.Uint32(field[:4]) != 0x80000000 {
			return 0, false
		}
		n := binary.BigEndian.Uint64(field[4:])
		return int64(n), int64(n) >= 0
	}
	text, _, _ := strings.Cut(strings.Trim(string(field), " \x00"), "\x00")
	if text == "" {
		return 0, true
	}
	n, err := strconv.ParseUint(text, 8, 63)
	return int64(n), err == nil
}

// tree keeps count of the file tree that claircore will build, and of the work
// it will take: for an entry whose directory has no entry of its own, it looks
// through all children of every directory on the way.
type tree struct {
	maxEntries int
	entries    int
	bytes      int
	visits     int
	children   map[string]int    // by name of everything known, directory or not
	links      map[string]string // symbolic links and where they lead
}

func newTree(maxEntries int) *tree {
	return &tree{maxEntries: maxEntries, children: map[string]int{".": 0}, links: map[string]string{}}
}

// add counts one entry and the directories it implies.
func (t *tree) add(h *tar.Header) error {
	name := inArchive(h.Name)
	if err := t.loops(name); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeReg && h.Size > maxFile(name) {
		return fmt.Errorf("its file %.100q has %d bytes; of its kind at most %d can be looked at", name, h.Size, maxFile(name))
	}
	t.count(len(h.Name) + len(h.Linkname))
	dir := path.Dir(name)
	if _, known := t.children[dir]; !known {
		t.walk(dir)
	}
	t.put(name)
	if h.Typeflag == tar.TypeSymlink {
		to := h.Linkname
		if !path.IsAbs(to) {
			to = path.Join(path.Dir(name), to)
		}
		t.links[name] = inArchive(to)
	}
	return t.over()
}

// inArchive is a name the way tarfs knows it.
func inArchive(name string) string {
	if name = path.Join("/", name)[1:]; name == "" {
		return "."
	}
	return name
}

// put makes a name known, and a child of its directory.
func (t *tree) put(name string) {
	if _, known := t.children[name]; known {
		return
	}
	t.children[name] = 0
	dir := path.Dir(name)
	if to, ok := t.links[dir]; ok {
		dir = to
	}
	t.children[dir]++
}

// walk counts the way to a directory that has no entry, which is made unless
// the way leads through a symbolic link.
func (t *tree) walk(dir string) {
	at, linked := ".", false
	var made []string
	for part := range strings.SplitSeq(dir, "/") {
		t.visits += t.children[at]
		at = path.Join(at, part)
		if to, ok := t.links[at]; ok {
			at, linked = to, true
		} else if _, known := t.children[at]; !known {
			made = append(made, at)
		}
		if t.over() != nil {
			return
		}
	}
	for _, d := range made {
		t.count(len(d))
		if !linked {
			t.put(d)
		}
	}
}

func (t *tree) count(names int) {
	t.entries++
	t.bytes += names
}

func (t *tree) over() error {
	switch {
	case t.entries > t.maxEntries:
		return fmt.Errorf("it has more than the limit of %d entries", t.maxEntries)
	case t.bytes > t.maxEntries*maxTreePerEntry:
		return fmt.Errorf("the names in it have more than %d bytes", t.maxEntries*maxTreePerEntry)
	case t.visits > maxVisits:
		return errors.New("too many of its directories have no entry of their own")
	}
	return nil
}

// loops refuses an entry in place of a symbolic link that leads in a circle.
func (t *tree) loops(name string) error {
	for range maxLinkHops {
		to, ok := t.links[name]
		if !ok {
			return nil
		}
		name = to
	}
	return fmt.Errorf("its symbolic links lead in a circle at %.100q", name)
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
