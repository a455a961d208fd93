package broker

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"tocsin.dev/tocsin/delivery"
)

// Link is one shared connection to the first of several brokers that answers.
// It connects on first use, and again after [Link.Drop]; a connection that
// broke is replaced at the broker after the one it broke at. It is safe for
// concurrent use.
type Link[C any] struct {
	addresses []Address
	connect   func(ctx context.Context, a Address) (C, error)
	closeConn func(C)

	dialing chan struct{} // holds one token: who has it may connect
	mu      sync.Mutex
	conn    C
	up      bool
	gen     int // counts connections
	next    int // index of the broker to try first
	closed  bool
}

// NewLink makes a link that is not connected yet. connect and closeConn open
// and end one connection.
func NewLink[C any](addresses []Address, connect func(context.Context, Address) (C, error), closeConn func(C)) *Link[C] {
	l := &Link[C]{addresses: addresses, connect: connect, closeConn: closeConn, dialing: make(chan struct{}, 1)}
	l.dialing <- struct{}{}
	return l
}

// Get returns the connection and its generation, connecting if need be. When
// no broker answers, the error wraps every broker's, the most telling first:
// one that refused the login or the certificate before one that is not there.
func (l *Link[C]) Get(ctx context.Context) (C, int, error) {
	if c, gen, ok := l.current(); ok {
		return c, gen, nil
	}
	var zero C
	select {
	case <-l.dialing:
		defer func() { l.dialing <- struct{}{} }()
	case <-ctx.Done():
		return zero, 0, context.Cause(ctx)
	}
	if c, gen, ok := l.current(); ok {
		return c, gen, nil
	}
	var failures []error
	for i := range l.addresses {
		index := (l.next + i) % len(l.addresses)
		a := l.addresses[index]
		c, err := l.connect(ctx, a)
		if err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", a, err))
			continue
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.closed {
			l.closeConn(c)
			return zero, 0, errors.New("the target is closed")
		}
		l.conn, l.up, l.next = c, true, index
		l.gen++
		return c, l.gen, nil
	}
	return zero, 0, worst(failures)
}

func (l *Link[C]) current() (C, int, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conn, l.gen, l.up
}

// Drop ends the connection of that generation, if it is still the present
// one, so that the next Get makes a new one, at the next broker first.
func (l *Link[C]) Drop(gen int) {
	l.mu.Lock()
	if !l.up || l.gen != gen {
		l.mu.Unlock()
		return
	}
	c := l.conn
	l.up = false
	l.next = (l.next + 1) % len(l.addresses)
	l.mu.Unlock()
	l.closeConn(c)
}

// Close ends the connection for good.
func (l *Link[C]) Close() {
	l.mu.Lock()
	c, up := l.conn, l.up
	l.up, l.closed = false, true
	l.mu.Unlock()
	if up {
		l.closeConn(c)
	}
}

// worst joins errors and takes the class of the most telling one.
func worst(failures []error) error {
	all := errors.Join(failures...)
	for _, class := range []delivery.Class{
		delivery.ClassBlocked, delivery.ClassAuth, delivery.ClassTLS, delivery.ClassInvalid, delivery.ClassTimeout,
	} {
		for _, err := range failures {
			if delivery.Classify(err) == class {
				return delivery.Failed(class, all)
			}
		}
	}
	return all
}
