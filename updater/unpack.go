package updater

import (
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// compressions are those that claircore unpacks while it fetches, by their
// first bytes.
var compressions = []struct {
	magic []byte
	open  func(io.Reader) (io.ReadCloser, error)
}{
	{[]byte{0x1f, 0x8b}, func(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) }},
	{[]byte("BZh"), func(r io.Reader) (io.ReadCloser, error) { return io.NopCloser(bzip2.NewReader(r)), nil }},
	{[]byte{0x28, 0xb5, 0x2f, 0xfd}, func(r io.Reader) (io.ReadCloser, error) {
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	}},
}

// A meter unpacks a copy of a compressed response beside whoever reads it, only
// to learn how much comes out: claircore unpacks to disk without a bound. What is
// not compressed, or is broken, is none of its business. It has a goroutine from
// the first bytes of a compressed response until close.
type meter struct {
	limit int64
	head  []byte // until it is known what the response is
	known bool
	pipe  *io.PipeWriter
	done  chan struct{} // closed when the goroutine has ended
	over  error         // valid then
}

// write takes the next bytes of the response; its error says that they unpack to
// too much.
func (m *meter) write(p []byte) error {
	if !m.known {
		m.head = append(m.head, p...)
		if len(m.head) < 4 {
			return nil
		}
		m.known, p = true, m.head
		m.start()
	}
	if m.pipe == nil {
		return nil
	}
	_, err := m.pipe.Write(p)
	return err
}

func (m *meter) start() {
	for _, c := range compressions {
		if !bytes.HasPrefix(m.head, c.magic) {
			continue
		}
		r, w := io.Pipe()
		m.pipe, m.done = w, make(chan struct{})
		go func() {
			defer close(m.done)
			if z, err := c.open(r); err == nil {
				n, _ := io.CopyN(io.Discard, z, m.limit+1)
				z.Close()
				if n > m.limit {
					m.over = fmt.Errorf("%w: it unpacks to more than %d bytes (updaters.limits.unpacked)", ErrTooLarge, m.limit)
					r.CloseWithError(m.over)
					return
				}
			}
			_, _ = io.Copy(io.Discard, r)
		}()
		return
	}
}

// close ends the goroutine. Its error says that all there was unpacks to too much.
func (m *meter) close() error {
	if m.pipe == nil {
		return nil
	}
	m.pipe.Close()
	<-m.done
	return m.over
}
