package delivery

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

const (
	registerSQL = `
INSERT INTO tocsin.replica (id, name, lease_until)
VALUES (@id, @name, clock_timestamp() + @lease * INTERVAL '1 microsecond')`

	renewSQL = `
UPDATE tocsin.replica SET lease_until = clock_timestamp() + @lease * INTERVAL '1 microsecond' WHERE id = @id`

	// The lanes this replica still owns.
	ownedSQL = `SELECT subscription_id, token FROM tocsin.lane WHERE owner = @id`

	leaveLanesSQL   = `UPDATE tocsin.lane SET owner = NULL WHERE owner = @id`
	leaveReplicaSQL = `DELETE FROM tocsin.replica WHERE id = @id`
)

// replica is what a worker is to the others: an id with a lease. All methods
// are safe for concurrent use.
type replica struct {
	now     func() time.Time
	started time.Time
	lease   time.Duration

	id     atomic.Value // uuid.UUID, once registered
	leased atomic.Int64 // until when the lease holds, as time since started
	since  atomic.Int64 // since when it has held without a gap, likewise
}

// self is the id under which this replica has its lanes.
func (r *replica) self() uuid.UUID {
	id, _ := r.id.Load().(uuid.UUID)
	return id
}

// age is how long this process has been a replica.
func (r *replica) age() time.Duration { return r.now().Sub(r.started) }

// renewed says that the database renewed the lease in an exchange that was
// begun at the given age. It returns true if the lease had run out before.
func (r *replica) renewed(asked time.Duration) bool {
	// A tenth of the lease covers what the two clocks may drift apart in it.
	until := r.leased.Swap(int64(asked + r.lease - r.lease/10))
	if until >= int64(asked) {
		return false
	}
	r.since.Store(int64(asked))
	return true
}

// mayAct says whether this replica's lease still holds.
func (r *replica) mayAct() bool { return int64(r.age()) < r.leased.Load() }

// steady says whether this replica has held its lease for a while: after a
// database outage every lease has run out, and each replica gets time to renew
// its own before another takes it for dead.
func (r *replica) steady() bool {
	return r.mayAct() && r.age() > time.Duration(r.since.Load())+r.lease/2
}

// heartbeats renews this replica's lease until ctx ends. A lane that another
// replica has taken meanwhile is given up.
func (w *Worker) heartbeats(ctx context.Context) {
	t := time.NewTicker(w.o.Lease / 4)
	defer t.Stop()
	for {
		if err := w.heartbeat(ctx); err != nil && ctx.Err() == nil {
			w.log.WarnContext(ctx, "delivery lease not renewed", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (w *Worker) heartbeat(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, w.o.Lease/2)
	defer cancel()
	asked := w.replica.age()
	lanes := w.owned()
	self := w.replica.self()
	args := pgx.NamedArgs{"id": self, "name": w.o.Name, "lease": w.o.Lease.Microseconds()}
	tag, err := w.hot.Exec(ctx, renewSQL, args)
	if err != nil {
		return err
	}
	if tag.RowsAffected() == 0 {
		// Not there yet, or taken for dead: its lanes are others' now.
		if self, err = uuid.NewV7(); err != nil {
			return err
		}
		args["id"] = self
		if _, err := w.hot.Exec(ctx, registerSQL, args); err != nil {
			return err
		}
		w.replica.id.Store(self)
	}
	if w.replica.renewed(asked) {
		w.wake()
	}
	rows, err := w.hot.Query(ctx, ownedSQL, pgx.NamedArgs{"id": self})
	if err != nil {
		return err
	}
	owned := map[uuid.UUID]int64{}
	var (
		id    uuid.UUID
		token int64
	)
	if _, err := pgx.ForEachRow(rows, []any{&id, &token}, func() error {
		owned[id] = token
		return nil
	}); err != nil {
		return err
	}
	for _, l := range lanes {
		if token, ok := owned[l.id]; !ok || token != l.token || l.owner != self {
			l.post(lost{})
		}
		l.hint()
	}
	return nil
}

// leave gives back what this replica has, so that others need not wait for
// its lease to run out.
func (w *Worker) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for _, sql := range []string{leaveLanesSQL, leaveReplicaSQL} {
		if _, err := w.hot.Exec(ctx, sql, pgx.NamedArgs{"id": w.replica.self()}); err != nil {
			w.log.WarnContext(ctx, "delivery lanes not given back", slog.Any("error", err))
			return
		}
	}
}
