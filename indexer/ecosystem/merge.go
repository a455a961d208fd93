package ecosystem

import (
	"path"
	"slices"
	"strings"

	"github.com/quay/claircore"
)

const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
	// maxLinks is how many symbolic links one path may lead through.
	maxLinks = 40
)

// tree is a file system that layers are applied to one after another, as a
// container runtime does: whiteouts first, which only take what lower layers
// put there, then the archive's entries in order.
type tree struct{ root *node }

type node struct {
	parent   *node
	name     string
	children map[string]*node // nil unless it is a directory
	link     string           // where a symbolic link leads
	layer    int              // the layer that put it there
}

func newTree() *tree { return &tree{root: &node{children: map[string]*node{}}} }

// apply puts a layer on top.
func (t *tree) apply(layer int, files []claircore.File) {
	for _, f := range files {
		dir, base := path.Split(f.Path)
		if !strings.HasPrefix(base, whiteout) {
			continue
		}
		d := t.find(dir)
		if d == nil || d.children == nil {
			continue
		}
		switch {
		case base == opaque:
			clear(d.children)
		case strings.HasPrefix(base, whiteout+whiteout): // a file system's own bookkeeping
		default:
			delete(d.children, strings.TrimPrefix(base, whiteout))
		}
	}
	for _, f := range files {
		dir, base := path.Split(f.Path)
		if strings.HasPrefix(base, whiteout) || f.Path == "." {
			continue
		}
		d := t.make(layer, dir)
		if d == nil {
			continue
		}
		n := &node{parent: d, name: base, layer: layer}
		if f.Kind == KindDirectory {
			if old := d.children[base]; old != nil && old.children != nil {
				continue
			}
			n.children = map[string]*node{}
		}
		if link, ok := strings.CutPrefix(string(f.Kind), string(KindLink)); ok {
			n.link = link
		}
		d.children[base] = n
	}
}

// find follows a path through symbolic links, the last one too. It is nil if
// nothing is there.
func (t *tree) find(name string) *node {
	n, _ := t.walk(t.root, name, -1, new(int))
	return n
}

// make returns a directory, making what is missing on the way as the layer's. A
// file in the way is replaced. It is nil if links lead in a circle.
func (t *tree) make(layer int, name string) *node {
	n, _ := t.walk(t.root, name, layer, new(int))
	return n
}

// walk goes from a directory along a path. With a layer, directories that are
// missing are made.
func (t *tree) walk(at *node, name string, layer int, links *int) (*node, bool) {
	for part := range strings.SplitSeq(name, "/") {
		switch part {
		case "", ".":
			continue
		case "..":
			if at.parent != nil {
				at = at.parent
			}
			continue
		}
		if at.children == nil {
			return nil, false
		}
		next := at.children[part]
		if next != nil && next.link != "" {
			if *links++; *links > maxLinks {
				return nil, false
			}
			from := at
			if path.IsAbs(next.link) {
				from = t.root
			}
			var ok bool
			if next, ok = t.walk(from, next.link, layer, links); !ok {
				return nil, false
			}
		}
		if layer >= 0 && (next == nil || next.children == nil) {
			next = &node{parent: at, name: part, children: map[string]*node{}, layer: layer}
			at.children[part] = next
		}
		if next == nil {
			return nil, false
		}
		at = next
	}
	return at, true
}

// attached reports whether a node is still part of the tree.
func (t *tree) attached(n *node) bool {
	for ; n != t.root; n = n.parent {
		if n.parent == nil || n.parent.children[n.name] != n {
			return false
		}
	}
	return true
}

// survivors applies layers one after another and reports, of the paths that
// something was found at in each, which still hold what that layer put there.
// A path that its layer's listing does not have is taken to survive: better to
// report what is gone than to leave out what is there. apk's databases are read
// at fixed places, which must lead to them.
func survivors(layers [][]claircore.File, found []map[string]bool) []map[string]bool {
	t := newTree()
	nodes := make([]map[string]*node, len(layers))
	for i, files := range layers {
		t.apply(i, files)
		nodes[i] = map[string]*node{}
		for p := range found[i] {
			if n := t.find(p); n != nil && n.layer == i {
				nodes[i][p] = n
			}
		}
	}
	out := make([]map[string]bool, len(layers))
	for i := range layers {
		out[i] = map[string]bool{}
		for p := range found[i] {
			n := nodes[i][p]
			out[i][p] = n == nil || t.attached(n)
			if n != nil && slices.Contains(apkDatabases, p) {
				out[i][p] = slices.ContainsFunc(apkDatabases, func(db string) bool { return t.find(db) == n })
			}
		}
	}
	return out
}
