package indexer

//lint:file-ignore SA1019 claircore's Manifest has no other place for where a layer is.

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/quay/claircore"

	"tocsin.dev/tocsin/indexer/blobs"
	"tocsin.dev/tocsin/indexer/image"
	"tocsin.dev/tocsin/internal/safehttp"
)

// FetchError says why a layer could not be had. It never wraps a context's
// error: claircore would take that for its own and try for ever.
type FetchError struct {
	Layer  string // digest
	URI    string // without query and credentials
	Reason string
	// Permanent says that trying again won't help.
	Permanent bool
}

// Error implements error.
func (e *FetchError) Error() string {
	return fmt.Sprintf("layer %s from %s: %s", e.Layer, e.URI, e.Reason)
}

func permanent(l *claircore.Layer, reason string) *FetchError {
	return &FetchError{Layer: l.Hash.String(), URI: bareURI(l.URI), Reason: reason, Permanent: true}
}

func passing(l *claircore.Layer, reason string) *FetchError {
	return &FetchError{Layer: l.Hash.String(), URI: bareURI(l.URI), Reason: reason}
}

// bareURI cuts what may be secret from a URI.
func bareURI(uri string) string {
	u, err := url.Parse(uri)
	if err != nil {
		return "an unreadable URI"
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}

// Causes of a transfer's end.
var (
	errSlow    = errors.New("the transfer took too long")
	errStalled = errors.New("the transfer stalled")
)

// fetch transfers, verifies and unpacks a layer into a nameless file. diff is
// the digest of what it unpacks to.
func (a *arena) fetch(ctx context.Context, l *claircore.Layer) (file *os.File, diff string, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	slow := time.AfterFunc(a.limits.LayerTimeout, func() { cancel(errSlow) })
	defer slow.Stop()
	stalled := time.AfterFunc(a.limits.StallTimeout, func() { cancel(errStalled) })
	defer stalled.Stop()

	body, err := a.open(ctx, l)
	if err != nil {
		return nil, "", a.explain(ctx, l, err)
	}
	defer body.Close()
	f, plain, err := a.nameless()
	if err != nil {
		return nil, "", err
	}
	defer f.Close()
	in := &source{r: body, left: a.limits.MaxLayerBytes, progress: func() { stalled.Reset(a.limits.StallTimeout) }}
	if diff, err = a.unpack(in, f, l); err != nil {
		plain.Close()
		return nil, "", a.explain(ctx, l, err)
	}
	file, err = a.normalize(plain, l)
	return file, diff, err
}

// nameless makes a file of the spool directory that is gone when it is closed:
// one handle to write it, and one for whoever reads it, who can't write.
func (a *arena) nameless() (w, r *os.File, err error) {
	if w, err = os.CreateTemp(a.dir, spoolPrefix); err != nil {
		return nil, nil, fmt.Errorf("spool a layer: %w", err)
	}
	r, err = os.Open(w.Name())
	if err == nil {
		if err = os.Remove(w.Name()); err == nil {
			return w, r, nil
		}
		r.Close()
	}
	w.Close()
	return nil, nil, fmt.Errorf("spool a layer: %w", err)
}

// open starts the transfer.
func (a *arena) open(ctx context.Context, l *claircore.Layer) (io.ReadCloser, error) {
	if digest, ok := blobs.FromURI(l.URI); ok {
		f, err := a.blobs.Open(ctx, digest)
		if errors.Is(err, blobs.ErrNotFound) {
			return nil, passing(l, "it is not in this replica's blob store: upload it again, or let the replicas share their uploads (indexer.shared_uploads, or one directory)")
		}
		return f, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.URI, nil)
	if err != nil {
		return nil, permanent(l, "its URI is not a URL")
	}
	for k, vs := range l.Headers {
		for _, v := range vs {
			req.Header.Add(k, v)
		}
	}
	client := a.client
	if t := attemptFrom(ctx); t != nil && t.login != nil {
		if client, err = t.login(); err != nil {
			return nil, err
		}
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		if resp.ContentLength > a.limits.MaxLayerBytes {
			resp.Body.Close()
			return nil, permanent(l, fmt.Sprintf("it has %d bytes, more than the limit of %d", resp.ContentLength, a.limits.MaxLayerBytes))
		}
		return resp.Body, nil
	}
	resp.Body.Close()
	return nil, statusError(l, resp.StatusCode)
}

func statusError(l *claircore.Layer, code int) error {
	reason := fmt.Sprintf("the server answered %d %s", code, http.StatusText(code))
	switch {
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		return permanent(l, reason+" (its credentials have expired or are missing: publish the manifest again)")
	case code == http.StatusRequestTimeout || code == http.StatusTooEarly || code == http.StatusTooManyRequests || code >= 500:
		return passing(l, reason)
	default:
		return permanent(l, reason)
	}
}

// explain makes a [FetchError] of whatever ended a transfer, but for the end
// of the caller's own context and for failures of this machine.
func (a *arena) explain(ctx context.Context, l *claircore.Layer, err error) error {
	if fe, ok := errors.AsType[*FetchError](err); ok {
		return fe
	}
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errSlow):
		return passing(l, fmt.Sprintf("the transfer took longer than %v", a.limits.LayerTimeout))
	case errors.Is(cause, errStalled):
		return passing(l, fmt.Sprintf("the transfer stalled for %v", a.limits.StallTimeout))
	case cause != nil:
		return cause
	}
	if blocked, ok := errors.AsType[*safehttp.BlockedError](err); ok {
		return permanent(l, blocked.Error())
	}
	if redirect, ok := errors.AsType[*safehttp.RedirectError](err); ok {
		return permanent(l, redirect.Error())
	}
	if bad, ok := errors.AsType[*safehttp.URLError](err); ok {
		return permanent(l, "its URI's "+bad.Error())
	}
	if refused, ok := errors.AsType[*image.Error](err); ok {
		return permanent(l, refused.Error())
	}
	if _, ok := errors.AsType[*os.PathError](err); ok {
		return fmt.Errorf("spool a layer: %w", err)
	}
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err // without the URL
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return passing(l, "the transfer was cut off")
	}
	return passing(l, err.Error())
}

// source counts what is read of a transfer, and says so to the watchdog.
type source struct {
	r        io.Reader
	left     int64
	progress func()
	err      error // what ended the transfer, nil at its proper end
}

var errTooLong = errors.New("layer is over the limit")

// Read implements [io.Reader].
func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if n > 0 {
		s.progress()
	}
	if s.left -= int64(n); s.left < 0 {
		s.err = errTooLong
		return 0, errTooLong
	}
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// unpack copies a transfer to f, decompressed, and checks its digest. It returns
// that of what it has written.
func (a *arena) unpack(in *source, f *os.File, l *claircore.Layer) (diff string, err error) {
	sum := l.Hash.Hash()
	buffered := bufio.NewReaderSize(io.TeeReader(in, sum), 1<<16)
	plain, err := decompressor(buffered)
	if err != nil {
		return "", a.damaged(in, l, err)
	}
	defer plain.Close()
	content := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, content), io.LimitReader(plain, a.limits.MaxUnpackedBytes+1))
	switch _, local := errors.AsType[*os.PathError](err); {
	case local && in.err == nil:
		return "", err
	case err != nil:
		return "", a.damaged(in, l, err)
	case n > a.limits.MaxUnpackedBytes:
		return "", permanent(l, fmt.Sprintf("it unpacks to more than the limit of %d bytes", a.limits.MaxUnpackedBytes))
	}
	// The digest covers what follows the compressed stream, too.
	if _, err := io.Copy(io.Discard, buffered); err != nil {
		return "", a.damaged(in, l, err)
	}
	if got := sum.Sum(nil); !bytes.Equal(got, l.Hash.Checksum()) {
		return "", permanent(l, fmt.Sprintf("its content has the digest %s:%s", l.Hash.Algorithm(), hex.EncodeToString(got)))
	}
	return "sha256:" + hex.EncodeToString(content.Sum(nil)), nil
}

// damaged explains an error of decompression: by the transfer's own if that
// failed first.
func (a *arena) damaged(in *source, l *claircore.Layer, err error) error {
	switch {
	case errors.Is(in.err, errTooLong):
		return permanent(l, fmt.Sprintf("it has more than the limit of %d bytes", a.limits.MaxLayerBytes))
	case in.err != nil:
		return in.err
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return permanent(l, "its content is cut off")
	default:
		return permanent(l, "its content is damaged: "+err.Error())
	}
}

var (
	gzipMagic = []byte{0x1f, 0x8b}
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}
)

// decompressor looks at how the stream starts, not at what a server calls it.
func decompressor(r *bufio.Reader) (io.ReadCloser, error) {
	head, err := r.Peek(4)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, gzipMagic):
		return gzip.NewReader(r)
	case bytes.HasPrefix(head, zstdMagic):
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	default:
		return io.NopCloser(r), nil
	}
}
