package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// Bounds on what one layer may cost.
const (
	maxAttempts = 2 // children that one scan may lose
	maxSpared   = 10
	maxOpenLost = 2 // children lost before the layer was open
	maxLost     = 8 // children lost over all scanners
)

// Layer is a layer to be scanned. Its methods may be called concurrently.
type Layer struct {
	pool   *Pool
	digest string
	file   *os.File
	info   os.FileInfo
	size   int64

	// Guarded by the pool's mutex.
	lost, openLost int
	hopeless       string // why no scan of it is tried any more
}

// Layer takes in a plain tar archive. The file stays the caller's, and open
// until [Layer.Close] has returned.
func (p *Pool) Layer(digest string, f *os.File) (*Layer, error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", digest, err)
	}
	return &Layer{pool: p, digest: digest, file: f, info: fi, size: fi.Size()}, nil
}

// Scan runs one scanner over the layer.
//
// Errors: [*Failure] if the scan ended with one, [*LostError] if it was given
// up, [ErrAsk] if it needs a mapping file, and ctx's cause. Others are of this
// machine and may pass.
func (l *Layer) Scan(ctx context.Context, r Request) (Result, error) {
	attempts, spared := 0, 0
	for {
		if reason := l.given(); reason != "" {
			return Result{}, &LostError{Reason: reason}
		}
		c, err := l.pool.acquire(ctx, l, attempts > 0)
		if err != nil {
			return Result{}, err
		}
		result, err := c.scan(ctx, r, l.pool.opts.Limits.timeout(l.size))
		l.pool.give(c)
		gone, ok := errors.AsType[*errGone](err)
		if !ok {
			return result, err
		}
		if gone.spared {
			if spared++; spared >= maxSpared {
				return Result{}, fmt.Errorf("scanning processes end again and again: %s", gone.reason)
			}
			continue
		}
		l.count(c, gone)
		if attempts++; attempts >= maxAttempts {
			return Result{}, &LostError{Reason: gone.reason}
		}
	}
}

// given is why the layer has been given up; "" if it has not.
func (l *Layer) given() string {
	l.pool.mu.Lock()
	defer l.pool.mu.Unlock()
	return l.hopeless
}

// count holds the loss of a child against the layer, once for all its scans.
func (l *Layer) count(c *process, gone *errGone) {
	l.pool.mu.Lock()
	defer l.pool.mu.Unlock()
	if c.counted {
		return
	}
	c.counted = true
	l.lost++
	if !gone.opened {
		l.openLost++
	}
	if l.hopeless == "" && (l.openLost >= maxOpenLost || l.lost >= maxLost) {
		l.hopeless = gone.reason
	}
}

// Close takes the layer back from the child that has it. No scan of it may be
// under way.
func (l *Layer) Close() {
	l.pool.mu.Lock()
	defer l.pool.mu.Unlock()
	for _, c := range l.pool.procs {
		if c.layer != l || c.dead {
			continue
		}
		if c.inflight > 0 {
			c.kill("its layer has gone", true)
			continue
		}
		c.layer = nil
		if err := c.open(nil); err != nil {
			l.pool.end(c)
		}
	}
}
