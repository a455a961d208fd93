package blobs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
)

// Shared keeps blobs where every replica finds them. Its methods may be called
// concurrently, also by several processes for one digest.
type Shared interface {
	// Put stores what r yields, durably and whole, or leaves nothing to be found. The
	// error is syscall.ENOSPC if there is no room.
	Put(ctx context.Context, digest string, r io.Reader) error
	// Get opens a blob; fs.ErrNotExist if there is none. The caller closes it.
	Get(ctx context.Context, digest string) (io.ReadCloser, error)
	// Stat tells of a blob; fs.ErrNotExist if there is none.
	Stat(ctx context.Context, digest string) (size int64, used time.Time, err error)
	// Touch notes the use of a blob.
	Touch(ctx context.Context, digest string) error
	// List tells of all blobs.
	List(ctx context.Context) ([]Blob, error)
	// Remove removes a blob; that there is none is no error.
	Remove(ctx context.Context, digest string) error
}

// touchAfter is how old the last use of a shared blob may be before it is noted
// anew: less than the grace, and seldom enough to cost nothing.
const touchAfter = grace / 4

// share hands a blob of this directory to the other replicas.
func (s *Store) share(ctx context.Context, path, d string) error {
	if s.opts.Shared == nil {
		return nil
	}
	if _, used, err := s.opts.Shared.Stat(ctx, d); err == nil {
		return s.use(ctx, d, used)
	} else if !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("shared blobs: %w", err)
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("blob store: %w", err)
	}
	defer f.Close()
	if err := s.opts.Shared.Put(ctx, d, f); errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("%w (shared by all replicas: indexer.shared_uploads)", ErrFull)
	} else if err != nil {
		return fmt.Errorf("shared blobs: %w", err)
	}
	return nil
}

// use notes that a shared blob is in use, now and then.
func (s *Store) use(ctx context.Context, d string, used time.Time) error {
	if time.Since(used) < touchAfter {
		return nil
	}
	if err := s.opts.Shared.Touch(ctx, d); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("shared blobs: %w", err)
	}
	return nil
}

// fetch brings a shared blob into this directory, checked as an upload is.
func (s *Store) fetch(ctx context.Context, d string) error {
	r, err := s.opts.Shared.Get(ctx, d)
	if errors.Is(err, os.ErrNotExist) {
		return ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("shared blobs: %w", err)
	}
	defer r.Close()
	_, err = s.write(ctx, d, r)
	return err
}
