package bus

import (
	"context"

	"github.com/nats-io/nats.go"
)

// Wake hints to everyone who listens on subject, in any process, that there is
// something to do. The hint may be lost; who depends on it looks for himself
// now and then.
func (b *Bus) Wake(subject string) {
	// Lost, like any other hint, if there is no connection.
	_ = b.nc.Publish(subject, nil)
}

// OnWake returns a channel that has a value when there was a hint on subject
// since the last receive, however many there were. It also has one when the
// connection has come back, since hints may have been lost. It is never closed;
// the subscription ends with ctx.
func (b *Bus) OnWake(ctx context.Context, subject string) <-chan struct{} {
	c := make(chan struct{}, 1)
	hint := func() {
		select {
		case c <- struct{}{}:
		default:
		}
	}
	b.mu.Lock()
	b.hints[c] = struct{}{}
	b.mu.Unlock()
	sub, err := b.nc.Subscribe(subject, func(*nats.Msg) { hint() })
	if err != nil {
		// The connection has been closed for good: no more hints.
		b.log.WarnContext(ctx, "no hints from NATS", "subject", subject, "error", err)
	}
	context.AfterFunc(ctx, func() {
		b.mu.Lock()
		delete(b.hints, c)
		b.mu.Unlock()
		if sub != nil {
			// An error means that the connection is closed, and it with it.
			_ = sub.Unsubscribe()
		}
	})
	return c
}

// reconnected wakes everyone and has consumers look for what the server may
// have lost.
func (b *Bus) reconnected() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.hints {
		select {
		case c <- struct{}{}:
		default:
		}
	}
	b.next()
	b.epoch, b.next = context.WithCancel(context.Background())
}

// connection returns a context that ends when the connection has been lost and
// is back, or closed.
func (b *Bus) connection() context.Context {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.epoch
}
