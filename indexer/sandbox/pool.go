package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"tocsin.dev/tocsin/internal/filelock"
)

// Options are what a [Pool] stands on.
type Options struct {
	// Dir is where the children's temporary files go. Processes may share it.
	Dir string
	// Setup is handed to the function that [Main] was called with.
	Setup []byte
	// Children is how many run at a time; 2 if zero.
	Children int
	Limits   Limits
	Logger   *slog.Logger
}

// Pool keeps child processes. It starts none before they are needed. Its
// methods may be called concurrently.
type Pool struct {
	opts Options
	log  *slog.Logger

	wg sync.WaitGroup // children

	mu      sync.Mutex
	release func() // of the directory's lock; nil before the first child
	closed  bool
	procs   []*process
	changed chan struct{} // closed when a child has become free, or ended
}

// errClosed is the error of scans after [Pool.Close].
var errClosed = errors.New("the scanning processes have been stopped")

// New returns a pool. A program that has not called [Main] can't have one.
func New(o Options) (*Pool, error) {
	if !called.Load() {
		return nil, errors.New("sandbox: this program does not call Main first, so it can't be its own child")
	}
	if o.Dir == "" {
		return nil, errors.New("sandbox: a directory is required")
	}
	if o.Children <= 0 {
		o.Children = 2
	}
	o.Limits = o.Limits.withDefaults()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Pool{opts: o, log: o.Logger, changed: make(chan struct{})}, nil
}

// claim makes this pool's directory of temporary files, and removes those of
// pools that have ended without. The caller holds the mutex.
func (p *Pool) claim() error {
	if p.release != nil {
		return nil
	}
	root := p.opts.Dir
	if err := os.MkdirAll(root, 0o700); err != nil {
		return fmt.Errorf("directory of scanning processes: %w", err)
	}
	left, err := filepath.Glob(filepath.Join(root, "scan-*"))
	if err != nil {
		return err
	}
	for _, dir := range left {
		release, err := filelock.Take(filepath.Join(dir, "lock"))
		if err != nil {
			continue // in use, or being made or removed at this moment
		}
		err = os.RemoveAll(dir)
		release()
		if err != nil {
			return fmt.Errorf("remove what a process left behind: %w", err)
		}
	}
	dir, err := os.MkdirTemp(root, "scan-")
	if err != nil {
		return fmt.Errorf("directory of scanning processes: %w", err)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	if p.release, err = filelock.Take(filepath.Join(dir, "lock")); err != nil {
		return err
	}
	p.opts.Dir = dir
	return nil
}

// Warm starts the first child, so that the first scan need not wait for it.
func (p *Pool) Warm() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.procs) > 0 {
		return nil
	}
	_, err := p.add()
	return err
}

// Close ends all children and waits until they are gone, with their files.
func (p *Pool) Close() error {
	p.mu.Lock()
	p.closed = true
	for _, c := range p.procs {
		c.kill("Tocsin stops", true)
	}
	p.wake()
	p.mu.Unlock()
	p.wg.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.release == nil {
		return nil
	}
	err := os.RemoveAll(p.opts.Dir)
	p.release()
	p.release = nil
	return err
}

// keepIdle is how long a child without work is kept. One always is.
const keepIdle = 2 * time.Minute

// Reap ends children that have had no work for a while.
func (p *Pool) Reap() {
	p.mu.Lock()
	defer p.mu.Unlock()
	left := len(p.procs)
	for _, c := range p.procs {
		if left > 1 && !c.dead && c.inflight == 0 && time.Since(c.idleSince) > keepIdle {
			p.end(c)
			left--
		}
	}
}

// add starts a child. The caller holds the mutex.
func (p *Pool) add() (*process, error) {
	if err := p.claim(); err != nil {
		return nil, err
	}
	c, err := start(p.opts)
	if err != nil {
		return nil, err
	}
	c.idleSince = time.Now()
	p.procs = append(p.procs, c)
	p.wg.Go(func() {
		c.serve(p.log)
		p.mu.Lock()
		defer p.mu.Unlock()
		c.dead = true
		p.procs = slices.DeleteFunc(p.procs, func(o *process) bool { return o == c })
		p.wake()
	})
	return c, nil
}

// end ends a child without work. The caller holds the mutex.
func (p *Pool) end(c *process) {
	c.dead = true
	c.kill("it had nothing to do", true)
}

// wake tells those who wait for a child to look again. The caller holds the mutex.
func (p *Pool) wake() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// acquire returns a child that has the layer: one that others use, too, or, if
// alone is set, a new one that nobody else gets meanwhile.
func (p *Pool) acquire(ctx context.Context, l *Layer, alone bool) (*process, error) {
	for {
		c, wait, err := p.tryAcquire(l, alone)
		if c != nil || err != nil {
			return c, err
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (p *Pool) tryAcquire(l *Layer, alone bool) (*process, <-chan struct{}, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, nil, errClosed
	}
	var idle *process
	for _, c := range p.procs {
		switch {
		case c.dead:
		case c.layer == l && !c.alone && !alone:
			return p.take(c, l), nil, nil
		case c.inflight == 0 && (idle == nil || c.layer == nil):
			idle = c
		}
	}
	if idle != nil && alone {
		p.end(idle) // a new one is owed
		idle = nil
	}
	if idle == nil {
		if len(p.procs) >= p.opts.Children {
			return nil, p.changed, nil
		}
		var err error
		if idle, err = p.add(); err != nil {
			return nil, nil, err
		}
	}
	idle.layer, idle.alone = l, alone
	if err := idle.open(l); err != nil {
		idle.kill("", true) // its scans will see that it has ended
	}
	return p.take(idle, l), nil, nil
}

// take counts one more user of a child. The caller holds the mutex.
func (p *Pool) take(c *process, l *Layer) *process {
	if c.inflight++; c.inflight == 1 {
		ctx, cancel := context.WithCancel(context.Background())
		c.unwatch = cancel
		p.wg.Go(func() { c.watch(ctx, l.info) })
	}
	return c
}

// give counts one user less.
func (p *Pool) give(c *process) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.dead = c.dead || c.going()
	if c.inflight--; c.inflight == 0 {
		c.unwatch()
		c.alone = false
		c.idleSince = time.Now()
		p.wake()
	}
}
