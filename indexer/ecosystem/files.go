package ecosystem

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/quay/claircore"
	"github.com/quay/claircore/indexer"
)

// Kinds of files in a layer's listing. A symbolic link's kind is [KindLink]
// followed by where it leads.
const (
	KindFile      claircore.FileKind = "file"
	KindDirectory claircore.FileKind = "directory"
	KindLink      claircore.FileKind = "link:"
)

// Files is the scanner that lists what a layer does to the file system: every
// entry of its archive, in order, whiteouts among them.
type Files struct{}

var _ indexer.FileScanner = Files{}

// Name implements [indexer.VersionedScanner].
func (Files) Name() string { return "tocsin-files" }

// Version implements [indexer.VersionedScanner].
func (Files) Version() string { return "1" }

// Kind implements [indexer.VersionedScanner].
func (Files) Kind() string { return "file" }

// Scan implements [indexer.FileScanner].
func (Files) Scan(ctx context.Context, l *claircore.Layer) ([]claircore.File, error) {
	r, err := l.Reader()
	if err != nil {
		return nil, fmt.Errorf("list files: %w", err)
	}
	defer r.Close()
	var out []claircore.File
	for archive := tar.NewReader(r); ; {
		h, err := archive.Next()
		switch {
		case errors.Is(err, io.EOF):
			return out, nil
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case err != nil && !errors.Is(err, tar.ErrInsecurePath):
			return nil, fmt.Errorf("list files: %w", err)
		}
		f := claircore.File{Path: inLayer(h.Name), Kind: KindFile}
		switch h.Typeflag {
		case tar.TypeDir:
			f.Kind = KindDirectory
		case tar.TypeSymlink:
			f.Kind = KindLink + claircore.FileKind(h.Linkname)
		}
		out = append(out, f)
	}
}

// inLayer is a name of an archive as the scanners see it: relative to the root,
// without dots, with bytes that are no UTF-8 written out, as claircore's tarfs
// does.
func inLayer(name string) string {
	name = path.Join("/", name)[1:]
	if name == "" {
		return "."
	}
	if utf8.ValidString(name) {
		return name
	}
	var b strings.Builder
	for i := 0; i < len(name); {
		r, n := utf8.DecodeRuneInString(name[i:])
		if r == utf8.RuneError && n == 1 {
			b.WriteString(`\x` + strconv.FormatUint(uint64(name[i]), 16))
		} else {
			b.WriteString(name[i : i+n])
		}
		i += n
	}
	return b.String()
}

// text is what a file says, as the database can hold it.
func text(s string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", "\uFFFD"), "\uFFFD")
}
