package layertar

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
)

// Write writes the tree as an archive that every reader understands alike, but
// for the files for which skip returns true; nil skips none.
func (t *Tree) Write(to io.Writer, skip func(name string) bool) error {
	buffered := bufio.NewWriterSize(to, 1<<16)
	w := tar.NewWriter(buffered)
	// A tree may be written more than once.
	_ = t.each(t.root, "", func(_ string, n *node) error {
		if n.content != nil {
			n.content.path = ""
		}
		return nil
	})
	err := t.each(t.root, "", func(name string, n *node) error {
		if skip != nil && n.content != nil && skip(name) {
			return nil
		}
		return t.write(w, name, n)
	})
	return errors.Join(err, w.Close(), buffered.Flush())
}

func (t *Tree) write(w *tar.Writer, name string, n *node) error {
	h := &tar.Header{Name: name, Typeflag: n.kind, Mode: 0o644}
	switch {
	case n.kind == tar.TypeDir:
		h.Name, h.Mode = name+"/", 0o755
	case n.kind == tar.TypeSymlink:
		h.Linkname = n.target
	case n.content != nil && n.content.path != "":
		h.Typeflag, h.Linkname = tar.TypeLink, n.content.path
	case n.content != nil:
		n.content.path = name
		h.Size = n.content.size
	}
	if err := w.WriteHeader(h); err != nil {
		return unwritable(name, err)
	}
	if h.Size == 0 {
		return nil
	}
	r := tar.NewReader(io.NewSectionReader(t.r, n.content.start, n.content.end-n.content.start))
	if _, err := r.Next(); err != nil && !errors.Is(err, tar.ErrInsecurePath) {
		return unwritable(name, err)
	}
	if _, err := io.Copy(w, r); err != nil {
		return unwritable(name, err)
	}
	return nil
}

func unwritable(name string, err error) error {
	if local(err) {
		return err
	}
	return fmt.Errorf("its file %.100q can't be read: %w", name, err)
}

// each calls f for everything in a directory, and for what is in that
// afterwards.
func (t *Tree) each(dir *node, prefix string, f func(string, *node) error) error {
	for _, name := range slices.Sorted(maps.Keys(dir.children)) {
		n := dir.children[name]
		if err := f(prefix+name, n); err != nil {
			return err
		}
		if n.children != nil {
			if err := t.each(n, prefix+name+"/", f); err != nil {
				return err
			}
		}
	}
	return nil
}
