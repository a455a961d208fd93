package indexer

//lint:file-ignore SA1019 claircore's Manifest has no other place for where a layer is.

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/quay/claircore"
	"github.com/quay/claircore/indexer"
	"golang.org/x/sync/errgroup"

	"tocsin.dev/tocsin/indexer/blobs"
	"tocsin.dev/tocsin/indexer/sandbox"
)

// parallelLayers is how many layers of one manifest are fetched at a time.
const parallelLayers = 3

// spoolPrefix starts the names of files in the spool directory. They are
// removed as soon as they are open, so that a crash leaves none with content.
const spoolPrefix = "layer-"

// arena fetches layers for claircore into files that are gone when nobody
// needs them any more. It takes the place of claircore's own because that one
// puts no bound on what a layer unpacks to, how long it takes, or how many
// files are in it.
//
// Manifests that are indexed at the same time and share a layer share its file.
type arena struct {
	dir    string
	limits Limits
	blobs  *blobs.Store
	pool   *sandbox.Pool
	client *http.Client // for layers not in a registry we log in to

	mu     sync.Mutex
	spools map[string]*spool // by digest
}

var _ indexer.FetchArena = (*arena)(nil)

// spool is one unpacked layer on disk.
type spool struct {
	done  chan struct{} // closed when file, layer, diff and err are set
	file  *os.File
	layer *sandbox.Layer
	diff  string // digest of what it unpacks to
	err   error
	refs  int // under arena.mu

	bareOnce sync.Once
	bareFile *os.File // without rpm's databases; nil if it has none
	bare     *sandbox.Layer
	bareErr  error
}

func newArena(dir string, limits Limits, store *blobs.Store, client *http.Client, pool *sandbox.Pool) (*arena, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("layer directory: %w", err)
	}
	return &arena{dir: dir, limits: limits, blobs: store, client: client, pool: pool, spools: map[string]*spool{}}, nil
}

// clean removes what a crash left in the directory.
func (a *arena) clean() error {
	left, err := filepath.Glob(filepath.Join(a.dir, spoolPrefix+"*"))
	if err != nil {
		return err
	}
	for _, f := range left {
		fi, err := os.Stat(f)
		if err != nil || time.Since(fi.ModTime()) < time.Minute {
			continue
		}
		if err := os.Remove(f); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("clean the layer directory: %w", err)
		}
	}
	return nil
}

// Realizer implements [indexer.FetchArena]; each is for one manifest.
func (a *arena) Realizer(context.Context) indexer.Realizer { return &realizer{arena: a} }

// Close implements [indexer.FetchArena]. Files go with their last user.
func (a *arena) Close(context.Context) error { return nil }

// acquire returns the layer's file, fetching it if nobody has it. Success is
// shared; a failure is not, since another manifest may know a better URI or
// have other credentials for the same layer.
func (a *arena) acquire(ctx context.Context, l *claircore.Layer) (*spool, error) {
	digest := l.Hash.String()
	for {
		a.mu.Lock()
		s, ok := a.spools[digest]
		if !ok {
			s = &spool{done: make(chan struct{}), refs: 1}
			a.spools[digest] = s
			a.mu.Unlock()
			file, diff, err := a.fetch(ctx, l)
			var layer *sandbox.Layer
			if err == nil {
				layer, err = a.pool.Layer(digest, file)
			}
			a.mu.Lock()
			s.file, s.layer, s.diff, s.err = file, layer, diff, err
			a.mu.Unlock()
			if err != nil {
				a.release(digest, s)
			}
			close(s.done)
			return s, err
		}
		s.refs++
		a.mu.Unlock()
		select {
		case <-s.done:
		case <-ctx.Done():
			a.release(digest, s)
			return nil, context.Cause(ctx)
		}
		if s.err == nil {
			return s, nil
		}
		a.release(digest, s)
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
	}
}

// release gives up one use of a spool. A failed one is forgotten at once, so
// that the next who asks tries anew.
func (a *arena) release(digest string, s *spool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s.refs--
	if (s.refs == 0 || s.err != nil) && a.spools[digest] == s {
		delete(a.spools, digest)
	}
	if s.refs == 0 && s.file != nil {
		for _, l := range []*sandbox.Layer{s.layer, s.bare} {
			if l != nil {
				l.Close()
			}
		}
		if s.bareFile != nil {
			s.bareFile.Close()
		}
		s.file.Close() // read-only: nothing to lose
		s.file = nil
	}
}

// scan runs a scanner over a layer that some realizer holds.
func (a *arena) scan(ctx context.Context, l *claircore.Layer, r sandbox.Request) (sandbox.Result, error) {
	a.mu.Lock()
	s := a.spools[l.Hash.String()]
	a.mu.Unlock()
	if s == nil || s.layer == nil {
		return sandbox.Result{}, fmt.Errorf("layer %s has not been fetched", l.Hash)
	}
	out, err := s.layer.Scan(ctx, r)
	if err == nil || !forGood(err) || r.Kind != "package" || slices.Contains(rpmScanners, r.Name) {
		return out, err
	}
	// It may have failed over a database that is not its own.
	bare, bareErr := s.withoutRPM(a, l.Hash.String())
	if bareErr != nil {
		return sandbox.Result{}, bareErr
	}
	if bare == nil {
		return out, err
	}
	return bare.Scan(ctx, r)
}

// rpmScanners are those that rpm's databases are for.
var rpmScanners = []string{"rpm", "rhel-package-scanner"}

// forGood reports whether a scan would fail again.
func forGood(err error) bool {
	if failure, ok := errors.AsType[*sandbox.Failure](err); ok {
		return failure.Kind == sandbox.Unreadable || failure.Kind == sandbox.Panicked
	}
	_, lost := errors.AsType[*sandbox.LostError](err)
	return lost
}

// withoutRPM returns the layer without rpm's databases; nil if it has none.
func (s *spool) withoutRPM(a *arena, digest string) (*sandbox.Layer, error) {
	s.bareOnce.Do(func() {
		if s.bareFile, s.bareErr = a.withoutRPM(s.file); s.bareFile != nil {
			s.bare, s.bareErr = a.pool.Layer(digest, s.bareFile)
		}
	})
	return s.bare, s.bareErr
}

// realizer is the arena's view of one manifest.
type realizer struct {
	arena *arena

	mu   sync.Mutex
	held []func()
}

// Realize implements [indexer.Realizer]: it fetches the layers. It leaves them
// uninitialized, since this process does not read them.
func (r *realizer) Realize(ctx context.Context, layers []*claircore.Layer) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallelLayers)
	for _, l := range layers {
		g.Go(func() error { return r.realize(ctx, l) })
	}
	return g.Wait()
}

func (r *realizer) realize(ctx context.Context, l *claircore.Layer) error {
	digest := l.Hash.String()
	s, err := r.arena.acquire(ctx, l)
	if err != nil {
		return err
	}
	attemptFrom(ctx).unpacked(digest, s.diff)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held = append(r.held, func() { r.arena.release(digest, s) })
	return nil
}

// Close implements [indexer.Realizer]; the layers can't be scanned afterwards.
func (r *realizer) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, release := range r.held {
		release()
	}
	r.held = nil
	return nil
}
