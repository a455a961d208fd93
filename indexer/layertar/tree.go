package layertar

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
)

// Limits bound what an archive may hold.
type Limits struct {
	// Entries is how many files and directories there may be, Bytes how many
	// bytes they may have together.
	Entries int
	Bytes   int64
	// File is how many bytes a file of a name may have.
	File func(name string) int64
}

const (
	// maxNames is how many bytes of names there may be for each entry that
	// there may be.
	maxNames = 1 << 10
	maxHops  = 40 // symbolic links on the way to one file
	// Paths that Linux could not open, or that nobody has made in earnest, are
	// left out.
	maxPath  = 4096
	maxDepth = 512
	// maxSteps bounds the names that are looked up while the tree is built: a
	// few seconds.
	maxSteps = 50_000_000
	// maxImplied is how many directories may have no entry of their own: for
	// each, claircore's reader looks through those on the way.
	maxImplied = 1000
)

// Tree is the file tree of an archive, once all its entries are extracted.
type Tree struct {
	r       io.ReaderAt
	limits  Limits
	root    *node
	links   []*node
	odd     bool
	entries int
	names   int
	implied int
	steps   int
	bytes   int64
}

// node is a name in the tree.
type node struct {
	parent   *node
	name     string
	children map[string]*node // of a directory
	kind     byte             // as in a header
	target   string           // of a symbolic link
	content  *content         // of a file
	depth    int              // how many directories it is in
	length   int              // of its path
	gone     bool             // replaced by a later entry
}

// content is what a file and its hard links share.
type content struct {
	start, end int64 // in the archive, headers included
	size       int64
	path       string // of the first name that was written
}

var (
	errSteps = errors.New("its paths are too long and too many")
	errOut   = errors.New("a path that leads nowhere")
)

// Read reads an archive of so many bytes. An error that is no [os.PathError] is
// for people, and for good.
func Read(r io.ReaderAt, size int64, limits Limits) (*Tree, error) {
	t := &Tree{r: r, limits: limits, root: &node{kind: tar.TypeDir, children: map[string]*node{}}}
	w := walk{r: r, size: size}
	for {
		e, err := w.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = t.add(e)
		}
		if err != nil {
			return nil, err
		}
	}
	t.odd = t.odd || w.odd || t.implied > maxImplied
	return t, t.cut()
}

// Odd reports whether claircore's reader would see something else than the
// tree, or cope badly with it.
func (t *Tree) Odd() bool { return t.odd }

// Has reports whether a file is in the tree for which is returns true.
func (t *Tree) Has(is func(name string) bool) bool {
	found := false
	_ = t.each(t.root, "", func(name string, n *node) error {
		found = found || n.content != nil && is(name)
		return nil
	})
	return found
}

// child makes a node for a name in a directory; nil if its path would be too
// long, which links can make it.
func (n *node) child(name string, kind byte) *node {
	c := &node{parent: n, name: name, kind: kind, depth: n.depth + 1, length: n.length + 1 + len(name)}
	if c.depth > maxDepth || c.length > maxPath {
		return nil
	}
	return c
}

// add puts an entry in its place.
func (t *Tree) add(e entry) error {
	t.entries++
	t.names += len(e.h.Name) + len(e.h.Linkname)
	t.odd = t.odd || e.odd
	switch {
	case t.entries > t.limits.Entries:
		return fmt.Errorf("it has more than the limit of %d entries", t.limits.Entries)
	case t.names > t.limits.Entries*maxNames:
		return fmt.Errorf("the names in it have more than %d bytes", t.limits.Entries*maxNames)
	}
	name := path.Join("/", e.h.Name)[1:]
	if name == "" {
		return nil // the root is there
	}
	if len(name) > maxPath || strings.Count(name, "/") >= maxDepth {
		t.odd = true
		return nil
	}
	dir, err := t.find(t.root, path.Dir(name), true)
	if errors.Is(err, errOut) {
		t.odd = true
		return nil
	}
	if err != nil {
		return err
	}
	n := dir.child(path.Base(name), e.h.Typeflag)
	if n == nil {
		t.odd = true
		return nil
	}
	old := dir.children[n.name]
	switch n.kind {
	case tar.TypeDir:
		if old != nil && old.kind == tar.TypeDir {
			return nil
		}
		n.children = map[string]*node{}
	case tar.TypeLink:
		to, err := t.linked(e.h.Linkname)
		if to == nil || err != nil {
			return err // to nothing, or to a directory
		}
		if to == old || old != nil && old.content != nil && old.content == to.content {
			return nil // it is that already
		}
		n.kind, n.target, n.content = to.kind, to.target, to.content
	case tar.TypeSymlink:
		n.target = e.h.Linkname
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
	default:
		if e.h.Size > t.limits.File(name) {
			return fmt.Errorf("its file %.100q has %d bytes; of its kind at most %d can be looked at", name, e.h.Size, t.limits.File(name))
		}
		if t.bytes += e.h.Size; t.bytes > t.limits.Bytes {
			return fmt.Errorf("it unpacks to more than the limit of %d bytes", t.limits.Bytes)
		}
		n.kind = tar.TypeReg
		n.content = &content{start: e.start, end: e.end, size: e.h.Size}
	}
	if old != nil {
		old.gone, t.odd = true, true
	}
	dir.children[n.name] = n
	if n.kind == tar.TypeSymlink {
		t.links = append(t.links, n)
	}
	return nil
}

// linked is what a hard link leads to; nil if it can't be linked to.
func (t *Tree) linked(name string) (*node, error) {
	name = path.Join("/", name)[1:]
	if name == "" || len(name) > maxPath {
		return nil, nil
	}
	dir, err := t.find(t.root, path.Dir(name), false)
	if errors.Is(err, errOut) {
		return nil, nil
	}
	if dir == nil || err != nil {
		return nil, err
	}
	n := dir.children[path.Base(name)]
	if n == nil || n.kind == tar.TypeDir {
		return nil, nil
	}
	return n, nil
}

// find follows a path from a directory, through symbolic links. With make, what
// is missing on the way is made, and what is in the way replaced by a directory;
// otherwise the result is nil where the path leads nowhere.
func (t *Tree) find(at *node, name string, make bool) (*node, error) {
	hops := 0
	return t.follow(at, name, make, &hops)
}

func (t *Tree) follow(at *node, name string, create bool, hops *int) (*node, error) {
	if strings.HasPrefix(name, "/") {
		at = t.root
	}
	for part := range strings.SplitSeq(name, "/") {
		if t.steps++; t.steps > maxSteps {
			return nil, errSteps
		}
		switch part {
		case "", ".":
			continue
		case "..":
			if at.parent != nil {
				at = at.parent
			}
			continue
		}
		next := at.children[part]
		if next != nil && next.kind == tar.TypeSymlink {
			if *hops++; *hops > maxHops {
				return nil, errOut
			}
			to, err := t.follow(at, next.target, create, hops)
			if err != nil || to == nil {
				return nil, err
			}
			next = to
		}
		if next == nil || next.kind != tar.TypeDir {
			if !create {
				return nil, nil
			}
			made := at.child(part, tar.TypeDir)
			if made == nil {
				return nil, errOut
			}
			made.children = map[string]*node{}
			if next != nil {
				if next.parent != at || next.name != part {
					return nil, errOut // a link to a file: nothing can be in it
				}
				next.gone, t.odd = true, true
			}
			at.children[part] = made
			t.implied++
			if t.entries++; t.entries > t.limits.Entries {
				return nil, fmt.Errorf("it has more than the limit of %d entries", t.limits.Entries)
			}
			next = made
		}
		at = next
	}
	return at, nil
}

// cut removes symbolic links that lead in a circle.
func (t *Tree) cut() error {
	for _, l := range t.links {
		if l.gone {
			continue
		}
		at, hops := l, 0
		for at != nil && at.kind == tar.TypeSymlink {
			if hops++; hops > maxHops {
				break
			}
			dir, base := path.Split(strings.TrimRight(at.target, "/"))
			from := at.parent
			if strings.HasPrefix(at.target, "/") {
				from = t.root
			}
			n := 0
			parent, err := t.follow(from, dir, false, &n)
			if errors.Is(err, errOut) {
				hops = maxHops + 1
				break
			}
			if err != nil {
				return err
			}
			switch {
			case parent == nil:
				at = nil
			case base == "" || base == ".":
				at = parent
			case base == "..":
				at = parent.parent
			default:
				at = parent.children[base]
			}
		}
		if hops > maxHops {
			t.odd = true
			if l.parent.children[l.name] == l {
				delete(l.parent.children, l.name)
			}
		}
	}
	return nil
}

// local reports whether an error is of this machine.
func local(err error) bool {
	_, ok := errors.AsType[*os.PathError](err)
	return ok
}
