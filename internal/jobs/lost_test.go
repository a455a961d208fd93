package jobs_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"

	"tocsin.dev/tocsin/internal/bus"
	"tocsin.dev/tocsin/internal/jobs"
)

const insertLost = `
INSERT INTO tocsin.job (kind, key, payload, published_at) VALUES ('k', 'lost', '{}', now() - interval '1 minute') RETURNING id`

// The message of one job is lost while the stream always has others of its
// kind, so that the stream does not look emptied: that later ones have come
// through tells that it is.
func TestMessageLostAmongOthers(t *testing.T) {
	f := setup(t, fast())
	var lost uuid.UUID
	if err := f.pool.QueryRow(t.Context(), insertLost).Scan(&lost); err != nil {
		t.Fatal(err)
	}
	found := make(chan struct{})
	f.run(f.store, 3, func(ctx context.Context, j jobs.Job) error {
		switch j.Key {
		case "lost":
			close(found)
		case "long": // its message stays in the stream
			select {
			case <-found:
			case <-ctx.Done():
			}
		}
		return nil
	})
	long := f.submit("long")
	f.await(f.submit("later").ID, jobs.Done)
	f.await(lost, jobs.Done)
	f.await(long.ID, jobs.Done)
}

// Jobs that change all the time, as those of a short schedule do, do not keep
// the sweeper from looking after the others.
func TestSweepsWhileJobsChange(t *testing.T) {
	f := setup(t, fast())
	var left uuid.UUID
	if err := f.pool.QueryRow(t.Context(), insertLeft).Scan(&left); err != nil {
		t.Fatal(err)
	}
	b := f.nats.Connect()
	ctx, stop := context.WithCancel(t.Context())
	busy := make(chan struct{})
	go func() {
		defer close(busy)
		for ctx.Err() == nil {
			b.Wake(bus.WakeJobs)
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	f.run(f.store, 1, func(context.Context, jobs.Job) error { return nil })
	f.await(left, jobs.Done)
	stop()
	<-busy
}

// insertLeft is a job whose runner has gone, some sweeps from now.
const insertLeft = `
INSERT INTO tocsin.job (kind, key, payload, state, attempts, lease_until)
VALUES ('k', 'left', '{}', 'running', 1, now() + interval '1 second') RETURNING id`
