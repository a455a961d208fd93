package indexer

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/quay/claircore"
)

// checkTar walks the headers of an unpacked layer before claircore does, which
// holds all of them in memory and says less about what is wrong.
func (a *arena) checkTar(f *os.File, l *claircore.Layer) error {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("spool a layer: %w", err)
	}
	r := tar.NewReader(io.NewSectionReader(f, 0, size))
	for n := 0; ; n++ {
		_, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case n == 0 && (errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF)):
			return permanent(l, "it is not a tar archive")
		case errors.Is(err, io.ErrUnexpectedEOF):
			return permanent(l, "its tar archive is cut off")
		case err != nil && !errors.Is(err, tar.ErrInsecurePath):
			return permanent(l, "its tar archive is damaged: "+err.Error())
		case n >= a.limits.MaxEntries:
			return permanent(l, fmt.Sprintf("it has more than the limit of %d entries", a.limits.MaxEntries))
		}
	}
}
