package layertar

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

const blockSize = 512

var errCutOff = errors.New("its tar archive is cut off")

// entry is one entry of an archive and the extended headers before it.
type entry struct {
	h          *tar.Header
	start, end int64
	// odd says that claircore's reader would not find it, or not its content.
	odd bool
}

// walk finds the entries of a tar archive.
type walk struct {
	r     io.ReaderAt
	size  int64
	off   int64 // of the next block to read
	start int64 // of the entry it belongs to: extended headers come first
	seen  bool  // an entry was found
	odd   bool  // the archive's end is
}

// next returns the next entry, or io.EOF.
func (w *walk) next() (entry, error) {
	paxSize, odd := int64(-1), false
	for {
		var b [blockSize]byte
		switch err := w.block(&b, w.off); {
		case err != nil:
			return entry{}, err
		case b == [blockSize]byte{}:
			var second [blockSize]byte
			if err := w.block(&second, w.off+blockSize); err == nil && second != [blockSize]byte{} {
				w.odd = true // a lone block of zeros ends the archive, too
			}
			return entry{}, io.EOF
		case !checksum(&b):
			return entry{}, w.damage(fmt.Errorf("its tar archive is damaged: no header at byte %d", w.off))
		}
		if !bytes.HasPrefix(b[257:], []byte("ustar")) {
			odd = true
		}
		n, ok := number(b[124:136])
		if !ok {
			return entry{}, w.damage(fmt.Errorf("its tar archive is damaged: the size at byte %d is no number", w.off))
		}
		data := w.off + blockSize
		kind := b[156]
		switch kind {
		case tar.TypeReg, '\x00', tar.TypeCont:
			if paxSize >= 0 {
				odd = odd || n != paxSize
				n = paxSize
			}
		case tar.TypeGNUSparse:
			odd = true
			if b[482] != 0 {
				for more := true; more; data += blockSize {
					if err := w.block(&b, data); err != nil {
						return entry{}, w.damage(errCutOff)
					}
					more = b[504] != 0
				}
			}
		case tar.TypeLink, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeDir, tar.TypeFifo:
			if n > 0 && w.ends(data) {
				n, odd = 0, true // a size that speaks of another file
			}
		}
		if n > w.size-data {
			return entry{}, w.damage(errCutOff)
		}
		w.off = data + (n+blockSize-1)/blockSize*blockSize
		switch kind {
		case tar.TypeXHeader:
			size, ok := w.paxSize(data, n)
			if !ok {
				return entry{}, w.damage(fmt.Errorf("its tar archive is damaged: the extended header before byte %d has no proper size", w.off))
			}
			paxSize = max(paxSize, size)
			continue
		case tar.TypeGNULongName, tar.TypeGNULongLink:
			continue // belongs to the entry that follows
		case tar.TypeReg, '\x00', tar.TypeLink, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeDir, tar.TypeFifo, tar.TypeCont, tar.TypeGNUSparse:
		default:
			w.start = w.off
			paxSize, odd = -1, false
			continue
		}
		e := entry{start: w.start, end: min(w.off, w.size), odd: odd}
		w.start, w.seen = w.off, true
		var err error
		e.h, err = tar.NewReader(io.NewSectionReader(w.r, e.start, e.end-e.start)).Next()
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return entry{}, fmt.Errorf("its tar archive is damaged: the entry before byte %d has no proper header", w.off)
		}
		return e, nil
	}
}

// block reads one block. At the end it is io.EOF: many an archive lacks its own.
func (w *walk) block(b *[blockSize]byte, off int64) error {
	if off >= w.size {
		return io.EOF
	}
	if w.size-off < blockSize {
		return w.damage(errCutOff)
	}
	_, err := w.r.ReadAt(b[:], off)
	return err
}

// ends reports whether what is at off is no content: a header, zeros, or the end.
func (w *walk) ends(off int64) bool {
	var b [blockSize]byte
	if err := w.block(&b, off); err != nil {
		return errors.Is(err, io.EOF)
	}
	return b == [blockSize]byte{} || checksum(&b)
}

// maxPax bounds an extended header, as package archive/tar does.
const maxPax = 1 << 20

// paxSize finds the size that an extended header gives to its entry; -1 if it
// gives none.
func (w *walk) paxSize(off, n int64) (size int64, ok bool) {
	if n > maxPax {
		return 0, false
	}
	b := make([]byte, n)
	if _, err := w.r.ReadAt(b, off); err != nil && !errors.Is(err, io.EOF) {
		return 0, false
	}
	size = -1
	for text := string(b); text != ""; {
		length, _, found := strings.Cut(text, " ")
		n, err := strconv.Atoi(length)
		if !found || err != nil || n <= len(length)+1 || n > len(text) {
			break // padding
		}
		if v, ok := strings.CutPrefix(text[len(length)+1:n], "size="); ok {
			size, err = strconv.ParseInt(strings.TrimSuffix(v, "\n"), 10, 64)
			if err != nil || size < 0 {
				return 0, false
			}
		}
		text = text[n:]
	}
	return size, true
}

// damage says of an archive without a single entry that it is none.
func (w *walk) damage(err error) error {
	if !w.seen {
		return errors.New("it is not a tar archive")
	}
	return err
}

// checksum reports whether a block is a header: the sum of its bytes is in it,
// for which some count signed ones.
func checksum(b *[blockSize]byte) bool {
	want, ok := number(b[148:156])
	if !ok {
		return false
	}
	var unsigned, signed int64
	for i, c := range b {
		if i >= 148 && i < 156 {
			c = ' '
		}
		unsigned += int64(c)
		signed += int64(int8(c))
	}
	return want == unsigned || want == signed
}

// number reads a size: octal text, or base 256 if the first bit is set. A
// negative one is none.
func number(field []byte) (int64, bool) {
	if field[0]&0x80 != 0 {
		if len(field) < 12 || field[0] != 0x80 || binary.BigEndian.Uint32(field[:4]) != 0x80000000 {
			return 0, false
		}
		n := binary.BigEndian.Uint64(field[4:])
		return int64(n), int64(n) >= 0
	}
	text, _, _ := strings.Cut(strings.Trim(string(field), " \x00"), "\x00")
	if text = strings.TrimSpace(text); text == "" {
		return 0, true
	}
	n, err := strconv.ParseUint(text, 8, 63)
	return int64(n), err == nil
}
