package updater

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"path"
)

// inspect checks what an updater fetched before it is parsed, where it is a zip
// archive on disk (the OSV updater wraps the archive that it fetched in one of
// its own): a member that should be an archive is one, and nothing unpacks to
// more than the limits. The sizes that an archive declares can be relied on,
// since archive/zip refuses to read a member past its own.
func inspect(fetched io.Reader, limits Limits) error {
	f, ok := fetched.(interface {
		io.ReaderAt
		Stat() (fs.FileInfo, error)
	})
	if !ok {
		return nil
	}
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("fetched file: %w", err)
	}
	var magic [4]byte
	if n, _ := f.ReadAt(magic[:], 0); n < len(magic) || string(magic[:]) != "PK\x03\x04" {
		return nil
	}
	left := limits.Unpacked
	return inspectZip(f, info.Size(), limits, &left, 2)
}

func inspectZip(r io.ReaderAt, size int64, limits Limits, left *int64, depth int) error {
	z, err := zip.NewReader(r, size)
	if err != nil {
		return fmt.Errorf("the fetched archive: %w", err)
	}
	for _, f := range z.File {
		if depth > 1 && path.Ext(f.Name) == ".zip" && f.Method == zip.Store {
			offset, err := f.DataOffset()
			if err != nil {
				return fmt.Errorf("the fetched archive: %w", err)
			}
			inner := io.NewSectionReader(r, offset, int64(f.CompressedSize64))
			start := make([]byte, 64)
			n, _ := inner.ReadAt(start, 0)
			if start = start[:n]; !bytes.HasPrefix(start, []byte("PK")) {
				return fmt.Errorf("%s: %w: it has %d bytes and starts with %q", f.Name, ErrNotArchive, inner.Size(), start)
			}
			if err := inspectZip(inner, inner.Size(), limits, left, depth-1); err != nil {
				return fmt.Errorf("%s: %w", f.Name, err)
			}
			continue
		}
		if f.UncompressedSize64 > uint64(limits.Entry) {
			return fmt.Errorf("%s: %w: it unpacks to %d bytes, at most %d taken (updaters.limits.entry)", f.Name, ErrTooLarge, f.UncompressedSize64, limits.Entry)
		}
		if *left -= int64(f.UncompressedSize64); *left < 0 {
			return fmt.Errorf("%w: the archive unpacks to more than %d bytes (updaters.limits.unpacked)", ErrTooLarge, limits.Unpacked)
		}
	}
	return nil
}
