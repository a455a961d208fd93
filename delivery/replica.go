package delivery

import (
	"context"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

const (
	heartbeatSQL = `
INSERT INTO tocsin.replica (id, name, lease_until)
VALUES (@id, @name, clock_timestamp() + @lease * INTERVAL '1 microsecond')
ON CONFLICT (id) DO UPDATE SET lease_until = EXCLUDED.lease_until`

	// The lanes this replica still owns, and how many replicas live.
	ownedSQL = `
SELECT l.subscription_id, l.token, (SELECT count(*) FROM tocsin.replica WHERE lease_until > clock_timestamp())
FROM tocsin.lane l WHERE l.owner = @id
UNION ALL
SELECT NULL, 0, count(*) FROM tocsin.replica WHERE lease_until > clock_timestamp()`

	reapSQL = `DELETE FROM tocsin.replica WHERE lease_until < clock_timestamp() - INTERVAL '1 hour'`

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
	if _, err := q.hot.Exec(ctx, heartbeatSQL, pgx.NamedArgs{"id": q.id, "name": q.o.Name, "lease": q.o.Lease.Microseconds()}); err != nil {
		return err
	}
	// A tenth of the lease covers what the two clocks may drift apart in it.
	first := q.leased.Swap(int64(asked + q.o.Lease - q.o.Lease/10))
	if first == 0 {
		q.wake()
	}
	rows, err := q.hot.Query(ctx, ownedSQL, pgx.NamedArgs{"id": q.id})
	if err != nil {
		return err
	}
	owned := map[uuid.UUID]int64{}
	var (
		id       *uuid.UUID
		token    int64
		replicas int64
	)
	if _, err := pgx.ForEachRow(rows, []any{&id, &token, &replicas}, func() error {
		if id != nil {
			owned[*id] = token
		}
		return nil
	}); err != nil {
		return err
	}
	q.replicas.Store(max(replicas, 1))
	for _, l := range lanes {
		if token, ok := owned[l.id]; !ok || token != l.token {
			l.lose()
		}
		l.pump()
	}
	return nil
}

// mayAct says whether this replica's lease still holds.
func (q *Queue) mayAct() bool { return int64(time.Since(q.started)) < q.leased.Load() }

// leave gives back what this replica has, so that others need not wait for
// its lease to run out.
func (q *Queue) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for _, sql := range []string{leaveLanesSQL, leaveReplicaSQL} {
		if _, err := q.hot.Exec(ctx, sql, pgx.NamedArgs{"id": q.id}); err != nil {
			q.log.WarnContext(ctx, "delivery lanes not given back", slog.Any("error", err))
			return
		}
	}
}
