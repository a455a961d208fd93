package notifier

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"tocsin.dev/tocsin/internal/bus"
	"tocsin.dev/tocsin/internal/poll"
	"tocsin.dev/tocsin/notifier/eventlog"
)

// Options is what a Notifier works with. Announcer and Log are needed.
type Options struct {
	*Announcer
	Log  *eventlog.Log
	Pool *pgxpool.Pool
	// EveryFinding makes notifications of mode clair hold every finding of a
	// manifest, instead of the worst of each kind.
	EveryFinding bool
	Poll         time.Duration // how often to look for work without a hint; default 2 s
}

// Notifier matches the filters that read the data of events, and answers what a
// subscription has matched or would match. It is safe for concurrent use.
type Notifier struct{ Options }

// New returns a notifier; it starts nothing and does not touch the database.
func New(o Options) (*Notifier, error) {
	if o.Announcer == nil || o.Log == nil || o.Pool == nil {
		return nil, errors.New("notifier: an announcer, an event log and a database pool are needed")
	}
	o.Poll = cmp.Or(o.Poll, 2*time.Second)
	return &Notifier{o}, nil
}

// Run matches what is pending and runs the event log, until ctx ends and all
// that has ended too. At its start it seals again, with the keyring's first key,
// the secrets that another key sealed. Any number of replicas may run. A
// database or NATS that fails is logged and waited out.
func (n *Notifier) Run(ctx context.Context) error {
	var hints <-chan struct{}
	if n.Waker != nil {
		hints = n.Waker.OnWake(ctx, bus.WakeOutbox)
	}
	var wg sync.WaitGroup
	var err error
	wg.Go(func() { err = n.Log.Run(ctx) })
	wg.Go(func() { n.prepare(ctx) })
	wg.Go(func() { n.reseal(ctx) })
	wg.Go(func() {
		poll.Loop{Hints: hints, Every: n.Poll, Logger: n.Logger}.Run(ctx, n.matchPending)
	})
	wg.Wait()
	return err
}

// prepare compiles the subscriptions, and reads what new events need, before the
// first event waits for it.
func (n *Notifier) prepare(ctx context.Context) {
	_, err := n.subscribers.current(ctx, n.Pool)
	if err == nil {
		err = n.Events.Prepare(ctx)
	}
	if err != nil && ctx.Err() == nil {
		n.Logger.WarnContext(ctx, "the subscriptions and the public URL could not be read ahead", "reason", err)
	}
}

// reseal seals secrets with the first key that another key sealed.
func (n *Notifier) reseal(ctx context.Context) {
	if n.Subscriptions.Keyring == nil {
		return
	}
	count, err := n.Subscriptions.Reseal(ctx)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		n.Logger.ErrorContext(ctx, "some secrets are sealed with a key that is not configured", "reason", err)
	case count > 0:
		n.Logger.InfoContext(ctx, "secrets were sealed again with the first key", "secrets", count)
	}
}
