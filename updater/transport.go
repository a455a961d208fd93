package updater

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// A transport carries the requests of one run of one set and holds them to the
// limits. It is built for the run and forgotten with it.
//
// While the set discovers its updaters, it also remembers the first request that
// got no clear answer: claircore's discoveries go on without what they could not
// see, and an update without a release would look as if its advisories had been
// withdrawn.
type transport struct {
	next      http.RoundTripper
	limits    Limits
	userAgent string

	requests, probes atomic.Int64
	discovering      atomic.Bool

	mu      sync.Mutex
	unclear error
}

func newTransport(next http.RoundTripper, limits Limits, userAgent string) *transport {
	return &transport{next: next, limits: limits, userAgent: userAgent}
}

// discovery runs f as the set's discovery and returns its error, or the first
// unclear answer that f passed over.
func (t *transport) discovery(f func() error) error {
	t.discovering.Store(true)
	defer t.discovering.Store(false)
	err := f()
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil {
		err = t.unclear
	}
	return err
}

// RoundTrip implements [http.RoundTripper].
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := t.roundTrip(req)
	if err != nil && t.discovering.Load() {
		t.mu.Lock()
		if t.unclear == nil {
			t.unclear = fmt.Errorf("%s %s: %w", req.Method, req.URL.Redacted(), err)
		}
		t.mu.Unlock()
	}
	return res, err
}

func (t *transport) roundTrip(req *http.Request) (*http.Response, error) {
	if n := t.requests.Add(1); n > t.limits.Requests {
		return nil, fmt.Errorf("%w: more than %d (updaters.limits.requests)", ErrTooManyRequests, t.limits.Requests)
	}
	probe := req.Method == http.MethodHead
	if probe && t.probes.Add(1) > t.limits.Probes {
		return nil, fmt.Errorf("%w: more than %d HEAD (updaters.limits.probes): does the server answer 200 to everything?", ErrTooManyRequests, t.limits.Probes)
	}

	ctx, cancel := context.WithCancelCause(req.Context())
	watch := time.AfterFunc(t.limits.Stall, func() {
		cancel(fmt.Errorf("%w for %v (updaters.limits.stall)", ErrStalled, t.limits.Stall))
	})
	end := func() { watch.Stop(); cancel(context.Canceled) }
	out := req.Clone(ctx)
	if out.Header.Get("User-Agent") == "" {
		out.Header.Set("User-Agent", t.userAgent)
	}
	res, err := t.next.RoundTrip(out)
	if err != nil {
		err = because(ctx, err)
		end()
		return nil, err
	}
	limit := t.limits.Response
	if t.discovering.Load() {
		limit = min(limit, discoveryResponse)
		if err := answered(res, probe); err != nil {
			res.Body.Close()
			end()
			return nil, err
		}
	}
	if !probe && res.ContentLength > limit {
		res.Body.Close()
		end()
		return nil, fmt.Errorf("%w: %d bytes announced, at most %d taken (updaters.limits.response)", ErrTooLarge, res.ContentLength, limit)
	}
	res.Body = &body{ReadCloser: res.Body, ctx: ctx, watch: watch, stall: t.limits.Stall, end: end, left: limit, limit: limit, meter: meter{limit: t.limits.Unpacked}}
	return res, nil
}

// answered reports an error unless the answer to a discovery says yes, no, or go
// elsewhere. Alpine's discovery takes any other answer to a HEAD for "go on" and
// never ends.
func answered(res *http.Response, probe bool) error {
	switch c := res.StatusCode; {
	case c == http.StatusOK, c == http.StatusPartialContent, c == http.StatusNotFound, c >= 300 && c < 400 && c != http.StatusNotModified:
		return nil
	case c == http.StatusNotModified && !probe:
		// Factories are fresh and send no condition: a server that says "not
		// modified" to a plain request would silence the set.
		return fmt.Errorf("%w: %s to a request without a condition", ErrUnexpectedStatus, res.Status)
	default:
		start, _ := io.ReadAll(io.LimitReader(res.Body, 128))
		return fmt.Errorf("%w: %s%s (a mirror must answer 200 for what it has and 404 for what it has not)", ErrUnexpectedStatus, res.Status, quoted(start))
	}
}

func quoted(start []byte) string {
	if start = bytes.TrimSpace(start); len(start) == 0 {
		return ""
	}
	return fmt.Sprintf(", beginning with %q", start)
}

// because replaces an error by the reason that its request was given up for.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, ErrStalled) {
		return cause
	}
	return err
}

// A body is a response's body that ends with an error when it is too long or
// when the server stops sending.
type body struct {
	io.ReadCloser
	ctx         context.Context
	watch       *time.Timer
	stall       time.Duration
	end         func()
	left, limit int64
	meter       meter
}

func (b *body) Read(p []byte) (int, error) {
	// One byte more than is left tells a body that is just long enough from
	// one that is too long.
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if int64(n) > b.left {
		b.end()
		return int(b.left), fmt.Errorf("%w: more than %d bytes (updaters.limits.response)", ErrTooLarge, b.limit)
	}
	b.left -= int64(n)
	if tooMuch := b.meter.write(p[:n]); tooMuch != nil {
		b.end()
		return 0, tooMuch
	}
	switch {
	case err == nil && n > 0:
		b.watch.Reset(b.stall)
	case err == io.EOF:
		b.watch.Stop()
		if tooMuch := b.meter.close(); tooMuch != nil {
			b.end()
			return 0, tooMuch
		}
	case err != nil:
		err = because(b.ctx, err)
	}
	return n, err
}

func (b *body) Close() error {
	defer b.end()
	_ = b.meter.close() // Read has returned this error already, or nobody read to the end
	return b.ReadCloser.Close()
}
