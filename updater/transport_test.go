package updater

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// TestUnpackedBounded: what a compressed response unpacks to is bounded, however
// its first bytes arrive; what is not compressed is left alone.
func TestUnpackedBounded(t *testing.T) {
	t.Parallel()
	pack := func(w io.WriteCloser, out *bytes.Buffer, size int) []byte {
		_, err := w.Write(make([]byte, size))
		if err := errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		return bytes.Clone(out.Bytes())
	}
	gz := func(size int) []byte {
		var b bytes.Buffer
		return pack(gzip.NewWriter(&b), &b, size)
	}
	zst := func(size int) []byte {
		var b bytes.Buffer
		w, err := zstd.NewWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		return pack(w, &b, size)
	}
	const limit = 1 << 20
	tests := []struct {
		name    string
		data    []byte
		tooMuch bool
	}{
		{"gzip at the limit", gz(limit), false},
		{"gzip over it", gz(limit + 1), true},
		{"gzip bomb", gz(200 << 20), true},
		{"zstd at the limit", zst(limit), false},
		{"zstd over it", zst(limit + 1), true},
		{"zstd bomb", zst(200 << 20), true},
		{"two gzip members", append(gz(limit), gz(1)...), true},
		{"broken gzip", append(gz(10)[:15], 0xff, 0xff, 0xff), false},
		{"plain", make([]byte, 3*limit), false},
		{"short", []byte{0x1f, 0x8b}, false},
		{"empty", nil, false},
	}
	for _, tt := range tests {
		for _, piece := range []int{1, 4096} {
			t.Run(fmt.Sprint(tt.name, " in pieces of ", piece), func(t *testing.T) {
				t.Parallel()
				if piece == 1 && len(tt.data) > 1<<16 {
					piece = 1000
				}
				srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(tt.data) }))
				t.Cleanup(srv.Close)
				client := http.Client{Transport: newTransport(http.DefaultTransport, Limits{Unpacked: limit}.withDefaults(Defaults().Limits), "test")}
				res, err := client.Get(srv.URL)
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				got, err := io.ReadAll(&pieces{res.Body, piece})
				if tt.tooMuch != errors.Is(err, ErrTooLarge) {
					t.Errorf("error %v", err)
				}
				if !tt.tooMuch && (err != nil || !bytes.Equal(got, tt.data)) {
					t.Errorf("read %d bytes of %d and %v", len(got), len(tt.data), err)
				}
			})
		}
	}
}

type pieces struct {
	io.Reader
	n int
}

func (p *pieces) Read(b []byte) (int, error) { return p.Reader.Read(b[:min(len(b), p.n)]) }

// TestResponseBounded: a response of exactly the limit is taken, one byte more
// is not, announced or not; a slow server is waited for as long as it sends.
func TestResponseBounded(t *testing.T) {
	t.Parallel()
	limits := Limits{Response: 1 << 16, Stall: 500 * time.Millisecond}.withDefaults(Defaults().Limits)
	for _, chunked := range []bool{false, true} {
		for _, extra := range []int{-1, 0, 1} {
			size := int(limits.Response) + extra
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !chunked {
					w.Header().Set("Content-Length", fmt.Sprint(size))
				}
				for n := 0; n < size; n += 1 << 13 {
					_, _ = w.Write(make([]byte, min(1<<13, size-n)))
					_ = http.NewResponseController(w).Flush()
				}
			}))
			t.Cleanup(srv.Close)
			client := http.Client{Transport: newTransport(http.DefaultTransport, limits, "test")}
			res, err := client.Get(srv.URL)
			n := 0
			if err == nil {
				var b []byte
				b, err = io.ReadAll(res.Body)
				n = len(b)
				res.Body.Close()
			}
			if extra > 0 != errors.Is(err, ErrTooLarge) || extra <= 0 && (err != nil || n != size) {
				t.Errorf("limit %+d, chunked %v: %d bytes and %v", extra, chunked, n, err)
			}
		}
	}
}
