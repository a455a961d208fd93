package delivery

import (
	"context"
	"log/slog"
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

// heartbeats renews this replica's lease until ctx ends. A lane that another
// replica has taken meanwhile is given up.
func (q *Queue) heartbeats(ctx context.Context) {
	t := time.NewTicker(q.o.Lease / 4)
	defer t.Stop()
	for {
		if err := q.heartbeat(ctx); err != nil && ctx.Err() == nil {
			q.log.WarnContext(ctx, "delivery lease not renewed", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (q *Queue) heartbeat(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, q.o.Lease/2)
	defer cancel()
	asked := time.Since(q.started)
	lanes := q.owned()
	self := q.self()
	args := pgx.NamedArgs{"id": self, "name": q.o.Name, "lease": q.o.Lease.Microseconds()}
	tag, err := q.hot.Exec(ctx, renewSQL, args)
	if err != nil {
		return err
	}
	if tag.RowsAffected() == 0 {
		// Not there yet, or taken for dead: its lanes are others' now.
		if self, err = uuid.NewV7(); err != nil {
			return err
		}
		args["id"] = self
		if _, err := q.hot.Exec(ctx, registerSQL, args); err != nil {
			return err
		}
		q.id.Store(self)
	}
	// A tenth of the lease covers what the two clocks may drift apart in it.
	until := q.leased.Swap(int64(asked + q.o.Lease - q.o.Lease/10))
	if until < int64(asked) {
		q.since.Store(int64(asked))
		q.wake()
	}
	rows, err := q.hot.Query(ctx, ownedSQL, pgx.NamedArgs{"id": self})
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
			l.lose()
		}
		l.pump()
	}
	return nil
}

// mayAct says whether this replica's lease still holds.
func (q *Queue) mayAct() bool { return int64(time.Since(q.started)) < q.leased.Load() }

// steady says whether this replica has held its lease for a while: after a
// database outage every lease has run out, and each replica gets time to renew
// its own before another takes it for dead.
func (q *Queue) steady() bool {
	return q.mayAct() && time.Since(q.started) > time.Duration(q.since.Load())+q.o.Lease/2
}

// self is the id under which this replica lives.
func (q *Queue) self() uuid.UUID {
	id, _ := q.id.Load().(uuid.UUID)
	return id
}

// leave gives back what this replica has, so that others need not wait for
// its lease to run out.
func (q *Queue) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for _, sql := range []string{leaveLanesSQL, leaveReplicaSQL} {
		if _, err := q.hot.Exec(ctx, sql, pgx.NamedArgs{"id": q.self()}); err != nil {
			q.log.WarnContext(ctx, "delivery lanes not given back", slog.Any("error", err))
			return
		}
	}
}
