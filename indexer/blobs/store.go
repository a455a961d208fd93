// Package blobs keeps layer blobs that clients uploaded, because nobody but
// the client could reach them: OCI layouts and docker archives on somebody's
// disk. It is a directory of files named by their digest.
//
// It guarantees: a blob that can be opened has the content its digest says,
// whole; an upload that fails leaves nothing that can be opened; a Put of what
// is there already costs no disk space. All operations are safe for concurrent
// use, also by several processes that share the directory, which is how several
// replicas serve one another's uploads: mount one volume everywhere and point
// every replica at it. Or give each a directory of its own and all of them one
// [Shared] store, where every upload is before Put returns.
//
// It does not know which blobs are needed: [Store.Sweep] asks.
package blobs

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"tocsin.dev/tocsin/internal/problem"
)

// scheme starts the URI of a layer that is in the store.
const scheme = "tocsin-blob:"

// Limits of a [Store] where Options names none.
const (
	DefaultMaxBlob  = 4 << 30
	DefaultMaxTotal = 64 << 30
)

// grace is how long a blob that nothing refers to is kept: the time between
// the upload of a layer and the request that names it. What is left of an
// upload that was cut off is removed after it too.
const grace = time.Hour

var (
	// ErrNotFound says that the store has no such blob.
	ErrNotFound = problem.New(problem.NotFound, "no such blob")
	// ErrTooLarge says that an upload is over the limit for one blob.
	ErrTooLarge = problem.New(problem.TooLarge, "blob is larger than the limit")
	// ErrFull says that the store has no room for more blobs.
	ErrFull = problem.New(problem.TooLarge, "the blob store is full: raise indexer.max_uploads or delete images")
	// ErrDigest says that a digest is malformed, or not that of the content.
	ErrDigest = errors.New("wrong digest")
)

// Options bound a [Store]; zero values mean the defaults.
type Options struct {
	MaxBlob  int64 // bytes of one blob
	MaxTotal int64 // bytes of all blobs; checked before an upload, not during
	// Shared has the blobs of every replica; this directory is then a cache of
	// what passed through here. Nil: the directory is all there is.
	Shared Shared
	// MaxShared bounds the bytes of all shared blobs.
	MaxShared int64
}

// Blob is one blob of the store.
type Blob struct {
	Digest   string
	Size     int64 // bytes
	LastUsed time.Time
}

// Store is a directory of blobs.
type Store struct {
	dir  string
	opts Options
}

// New returns the store in dir, which is created if absent.
func New(dir string, o Options) (*Store, error) {
	if o.MaxBlob <= 0 {
		o.MaxBlob = DefaultMaxBlob
	}
	if o.MaxTotal <= 0 {
		o.MaxTotal = DefaultMaxTotal
	}
	for _, d := range []string{"partial", "sha256", "sha512"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return nil, fmt.Errorf("blob store: %w", err)
		}
	}
	return &Store{dir: dir, opts: o}, nil
}

// URI is how a manifest's layer names a blob of the store.
func URI(digest string) string { return scheme + digest }

// FromURI returns the digest in a URI made by [URI], and whether it is one.
func FromURI(uri string) (string, bool) { return strings.CutPrefix(uri, scheme) }

// path returns where the blob is; the digest is validated, so that it can't
// lead out of the directory.
func (s *Store) path(d string) (string, hash.Hash, error) {
	parsed, err := digest.Parse(d)
	if err != nil {
		return "", nil, fmt.Errorf("%w: %w", ErrDigest, err)
	}
	var h hash.Hash
	switch parsed.Algorithm() {
	case digest.SHA256:
		h = sha256.New()
	case digest.SHA512:
		h = sha512.New()
	default:
		return "", nil, fmt.Errorf("%w: algorithm must be sha256 or sha512", ErrDigest)
	}
	return filepath.Join(s.dir, parsed.Algorithm().String(), parsed.Encoded()), h, nil
}

// Put stores what r yields under digest d. It reads to the end of r, checks
// the content against d, and makes it durable before it returns. If the blob is
// there already, r is not read.
//
// The error wraps [ErrDigest], [ErrTooLarge] or [ErrFull] where one of them is
// the reason.
func (s *Store) Put(ctx context.Context, d string, r io.Reader) (Blob, error) {
	path, _, err := s.path(d)
	if err != nil {
		return Blob{}, err
	}
	if b, err := s.stat(d); err == nil {
		return b, s.share(ctx, path, d)
	}
	b, err := s.write(ctx, d, r)
	if err == nil {
		err = s.share(ctx, path, d)
	}
	if err != nil {
		return Blob{}, err
	}
	return b, nil
}

// write stores what r yields in the directory, under digest d.
func (s *Store) write(ctx context.Context, d string, r io.Reader) (Blob, error) {
	path, h, err := s.path(d)
	if err != nil {
		return Blob{}, err
	}
	if total, err := s.total(); err != nil {
		return Blob{}, err
	} else if total >= s.opts.MaxTotal {
		return Blob{}, ErrFull
	}
	f, err := os.CreateTemp(filepath.Join(s.dir, "partial"), "upload-")
	if err != nil {
		return Blob{}, fmt.Errorf("blob store: %w", err)
	}
	defer os.Remove(f.Name()) // fails once it has been renamed
	defer f.Close()
	n, err := io.Copy(io.MultiWriter(f, h), io.LimitReader(&reader{ctx, r}, s.opts.MaxBlob+1))
	switch {
	case err != nil:
		return Blob{}, fmt.Errorf("blob upload: %w", err)
	case n > s.opts.MaxBlob:
		return Blob{}, fmt.Errorf("%w of %d bytes", ErrTooLarge, s.opts.MaxBlob)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != filepath.Base(path) {
		return Blob{}, fmt.Errorf("%w: the content's is %s:%s", ErrDigest, filepath.Base(filepath.Dir(path)), got)
	}
	if err := f.Sync(); err != nil {
		return Blob{}, fmt.Errorf("blob store: %w", err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return Blob{}, fmt.Errorf("blob store: %w", err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return Blob{}, fmt.Errorf("blob store: %w", err)
	}
	return Blob{Digest: d, Size: n, LastUsed: time.Now()}, nil
}

// Stat tells of the blob, or returns [ErrNotFound]. Asking counts as use, so
// that a client which skips an upload for the answer finds the blob still there
// when it submits the manifest.
func (s *Store) Stat(ctx context.Context, d string) (Blob, error) {
	b, err := s.stat(d)
	if s.opts.Shared == nil || err != nil && !errors.Is(err, ErrNotFound) {
		return b, err
	}
	size, used, err := s.opts.Shared.Stat(ctx, d)
	if errors.Is(err, fs.ErrNotExist) {
		return Blob{}, ErrNotFound // what is here alone, the others can't read
	}
	if err == nil {
		err = s.use(ctx, d, used)
	}
	if err != nil {
		return Blob{}, fmt.Errorf("shared blobs: %w", err)
	}
	return Blob{Digest: d, Size: size, LastUsed: used}, nil
}

// stat tells of a blob in the directory.
func (s *Store) stat(d string) (Blob, error) {
	path, _, err := s.path(d)
	if err != nil {
		return Blob{}, err
	}
	fi, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Blob{}, ErrNotFound
	} else if err != nil {
		return Blob{}, fmt.Errorf("blob store: %w", err)
	}
	s.touch(path)
	return Blob{Digest: d, Size: fi.Size(), LastUsed: fi.ModTime()}, nil
}

// Open opens the blob for reading, or returns [ErrNotFound]. The caller closes
// it; a sweep in the meantime does no harm.
func (s *Store) Open(ctx context.Context, d string) (*os.File, error) {
	f, err := s.open(d)
	if s.opts.Shared == nil || !errors.Is(err, ErrNotFound) {
		return f, err
	}
	if err := s.fetch(ctx, d); err != nil {
		return nil, err
	}
	return s.open(d)
}

// open opens a blob of the directory.
func (s *Store) open(d string) (*os.File, error) {
	path, _, err := s.path(d)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotFound
	} else if err != nil {
		return nil, fmt.Errorf("blob store: %w", err)
	}
	s.touch(path)
	return f, nil
}

// touch notes the use of a blob. That it fails is of no consequence but a
// sweep that comes earlier.
func (s *Store) touch(path string) {
	now := time.Now()
	_ = os.Chtimes(path, now, now)
}

func (s *Store) total() (total int64, err error) {
	all, err := s.list()
	for _, b := range all {
		total += b.Size
	}
	return total, err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// reader stops a copy when its context ends.
type reader struct {
	ctx context.Context
	r   io.Reader
}

// Read implements [io.Reader].
func (r *reader) Read(p []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
