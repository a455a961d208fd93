package access

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/time/rate"
)

// Bounds on failed attempts.
const (
	// failBurst wrong tokens at once are answered to an address; after that, one a
	// second.
	failBurst = 20
	// sameBurst is the same for one wrong token from one address: a client that goes
	// on with a token that was revoked uses up its own budget and not its address's.
	sameBurst = 3
	// remembered is how many addresses, wrong tokens and right tokens are remembered
	// each; the least recent is forgotten.
	remembered = 4096
	// suspectLookups bounds the look-ups under way for what is over its budget, so
	// that they cannot take the database's connections from others.
	suspectLookups = 2
	// suspectQueue is how many more may wait for one, and suspectWait how long.
	suspectQueue = 64
	suspectWait  = 2 * time.Second
	// prefixLength is how much of a token tells wrong ones apart: enough for that,
	// and no more, since what is remembered here was perhaps once a secret.
	prefixLength = len(Prefix) + 6
)

// ErrThrottled means that too many wrong tokens came from an address. A right
// token is answered with it only while the process is flooded, and only until it
// has been seen once.
var ErrThrottled = errors.New("too many wrong tokens from this address")

// Gate is a [Store] behind bounds on failed attempts: by address, and by token and
// address. A token that was right here before is always looked up, whatever else
// comes from its address. It is safe for concurrent use.
type Gate struct {
	store    *Store
	now      func() time.Time
	suspects chan struct{}
	queue    chan struct{}

	mu    sync.Mutex
	addrs *recent[string, *rate.Limiter]
	wrong *recent[string, *rate.Limiter]
	right *recent[[32]byte, struct{}] // by the token's hash
}

// NewGate returns a gate to store. now is the clock.
func NewGate(store *Store, now func() time.Time) *Gate {
	return &Gate{
		store: store, now: now, suspects: make(chan struct{}, suspectLookups), queue: make(chan struct{}, suspectQueue),
		addrs: newRecent[string, *rate.Limiter](), wrong: newRecent[string, *rate.Limiter](), right: newRecent[[32]byte, struct{}](),
	}
}

// Authenticate is [Store.Authenticate] for a request from addr, a host without
// port. What is over its budget of failures is answered [ErrThrottled] where it
// would have been [ErrUnknown].
func (g *Gate) Authenticate(ctx context.Context, addr, secret string) (Principal, error) {
	known, within := g.judge(addr, secret)
	if !known && !within {
		if !wellFormed(secret) {
			return Principal{}, ErrThrottled
		}
		leave, ok := g.enter(ctx)
		if !ok {
			return Principal{}, ErrThrottled
		}
		defer leave()
	}
	p, err := g.store.Authenticate(ctx, addr, secret)
	switch {
	case err == nil:
		g.succeeded(secret)
	case errors.Is(err, ErrUnknown):
		g.failed(addr, secret)
		if !within {
			err = ErrThrottled
		}
	}
	return p, err
}

// enter waits for a look-up of a suspect.
func (g *Gate) enter(ctx context.Context) (leave func(), ok bool) {
	select {
	case g.queue <- struct{}{}:
		defer func() { <-g.queue }()
	default:
		return nil, false
	}
	wait := time.NewTimer(suspectWait)
	defer wait.Stop()
	select {
	case g.suspects <- struct{}{}:
		return func() { <-g.suspects }, true
	case <-wait.C:
	case <-ctx.Done():
	}
	return nil, false
}

// judge reports whether the token was right before, and whether its address and
// it itself have failures left.
func (g *Gate) judge(addr, secret string) (known, within bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, known = g.right.Get([32]byte(hash(secret)))
	left := func(r *recent[string, *rate.Limiter], key string) bool {
		l, ok := r.Get(key)
		return !ok || l.TokensAt(g.now()) >= 1
	}
	return known, left(g.addrs, addr) && left(g.wrong, wrongKey(addr, secret))
}

func (g *Gate) succeeded(secret string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.right.Add([32]byte(hash(secret)), struct{}{})
}

// failed takes a failure off a budget: that of the address for a token that has
// not failed from there, and that of the token for one that has.
func (g *Gate) failed(addr, secret string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.right.Remove([32]byte(hash(secret))) // it was revoked
	key := wrongKey(addr, secret)
	if l, ok := g.wrong.Get(key); ok {
		l.AllowN(g.now(), 1)
		return
	}
	g.wrong.Add(key, rate.NewLimiter(1, sameBurst))
	l, ok := g.addrs.Get(addr)
	if !ok {
		l = rate.NewLimiter(1, failBurst)
		g.addrs.Add(addr, l)
	}
	l.AllowN(g.now(), 1)
}

func wrongKey(addr, secret string) string {
	return addr + " " + secret[:min(len(secret), prefixLength)]
}

// recent is what was used most recently. It is not safe for concurrent use.
type recent[K comparable, V any] = simplelru.LRU[K, V]

func newRecent[K comparable, V any]() *recent[K, V] {
	r, err := simplelru.NewLRU[K, V](remembered, nil)
	if err != nil {
		panic(err) // it refuses sizes below one
	}
	return r
}
