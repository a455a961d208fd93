package access

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Bounds on failed attempts.
const (
	// failBurst failures at once are answered; after that, one a second.
	failBurst = 20
	// addresses is how many are remembered; the least recent is forgotten.
	addresses = 4096
	// suspectLookups bounds the look-ups under way for addresses over their
	// budget, so that they cannot take the database's connections from others.
	suspectLookups = 2
)

// ErrThrottled means that too many wrong tokens came from an address. A right
// token is never answered with it, unless the process is flooded.
var ErrThrottled = errors.New("too many wrong tokens from this address")

// Gate is a [Store] behind a bound on failed attempts by address. It is safe
// for concurrent use.
type Gate struct {
	store    *Store
	now      func() time.Time
	suspects chan struct{}

	mu     sync.Mutex
	byAddr map[string]*list.Element
	recent *list.List // of *failures, most recent first
}

type failures struct {
	addr   string
	budget *rate.Limiter
}

// NewGate returns a gate to store. now is the clock.
func NewGate(store *Store, now func() time.Time) *Gate {
	return &Gate{
		store: store, now: now, suspects: make(chan struct{}, suspectLookups),
		byAddr: map[string]*list.Element{}, recent: list.New(),
	}
}

// Authenticate is [Store.Authenticate] for a request from addr, a host without
// port. Over its budget of failures, an address is answered [ErrThrottled]
// where it would have been [ErrUnknown].
func (g *Gate) Authenticate(ctx context.Context, addr, secret string) (Principal, error) {
	if !g.within(addr) {
		if !wellFormed(secret) {
			return Principal{}, ErrThrottled
		}
		select {
		case g.suspects <- struct{}{}:
			defer func() { <-g.suspects }()
		default:
			return Principal{}, ErrThrottled
		}
		p, err := g.store.Authenticate(ctx, addr, secret)
		if errors.Is(err, ErrUnknown) {
			err = ErrThrottled
		}
		return p, err
	}
	p, err := g.store.Authenticate(ctx, addr, secret)
	if errors.Is(err, ErrUnknown) {
		g.failed(addr)
	}
	return p, err
}

// within reports whether the address has failures left.
func (g *Gate) within(addr string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	e, ok := g.byAddr[addr]
	return !ok || e.Value.(*failures).budget.TokensAt(g.now()) >= 1
}

func (g *Gate) failed(addr string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	e, ok := g.byAddr[addr]
	if !ok {
		e = g.recent.PushFront(&failures{addr: addr, budget: rate.NewLimiter(1, failBurst)})
		g.byAddr[addr] = e
		if g.recent.Len() > addresses {
			last := g.recent.Back()
			g.recent.Remove(last)
			delete(g.byAddr, last.Value.(*failures).addr)
		}
	}
	g.recent.MoveToFront(e)
	e.Value.(*failures).budget.AllowN(g.now(), 1)
}
