package delivery

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

const (
	// Lanes that nobody has and that wait, with the version of the
	// subscription for which they do.
	waitingSQL = `
SELECT l.subscription_id, l.version FROM tocsin.lane l
WHERE l.not_before IS NOT NULL AND l.not_before > clock_timestamp()
  AND (l.owner IS NULL OR NOT EXISTS (SELECT FROM tocsin.replica r WHERE r.id = l.owner))`

	endWaitSQL = `
UPDATE tocsin.lane l SET not_before = NULL
FROM unnest(@ids::uuid[], @versions::bigint[]) AS w(id, version)
WHERE l.subscription_id = w.id AND l.version = w.version
  AND (l.owner IS NULL OR NOT EXISTS (SELECT FROM tocsin.replica r WHERE r.id = l.owner))`

	releaseSQL = `UPDATE tocsin.lane SET owner = NULL WHERE subscription_id = @id AND token = @token AND owner = @owner`

	dropLaneSQL = `
WITH gone AS (
  DELETE FROM tocsin.queue WHERE id IN (SELECT id FROM tocsin.queue WHERE subscription_id = @id ORDER BY next_attempt_at LIMIT 5000)
  RETURNING id, event_id, subscription_id, attempts, class, replay_of
)
INSERT INTO tocsin.delivery (id, event_id, subscription_id, state, attempts, class, replay_of)
SELECT id, event_id, subscription_id, 'dropped', attempts, class, replay_of FROM gone`

	forgetLaneSQL = `DELETE FROM tocsin.lane WHERE subscription_id = @id AND token = @token AND owner = @owner`
)

// idleAfter is how long a lane without work is kept, with its connections.
const idleAfter = time.Minute

// refreshes applies changes of subscriptions, gives up idle lanes and evens
// lanes out between replicas, until ctx ends.
func (q *Queue) refreshes(ctx, life context.Context) {
	t := time.NewTicker(q.o.Refresh)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if err := q.refresh(ctx, life); err != nil && ctx.Err() == nil {
			q.log.WarnContext(ctx, "subscriptions not read", slog.Any("error", err))
		}
		if err := q.endWaits(ctx); err != nil && ctx.Err() == nil {
			q.log.WarnContext(ctx, "waiting subscriptions not read", slog.Any("error", err))
		}
	}
}

func (q *Queue) refresh(ctx, life context.Context) error {
	q.mu.Lock()
	parked := maps.Clone(q.parked)
	q.mu.Unlock()
	lanes := q.owned()
	ids := slices.Collect(maps.Keys(parked))
	for _, l := range lanes {
		ids = append(ids, l.id)
	}
	if len(ids) == 0 {
		return nil
	}
	subs, err := q.subscriptions(ctx, ids)
	if err != nil {
		return err
	}
	for id, version := range parked {
		if sub, ok := subs[id]; !ok || sub.Version != version && sub.Active {
			q.mu.Lock()
			delete(q.parked, id)
			q.mu.Unlock()
			q.wake()
		}
	}
	for _, l := range lanes {
		switch sub, ok := subs[l.id]; {
		case !ok:
			l.end(endDeleted)
		case !sub.Active:
			q.park(sub)
			l.end(endParked)
		default:
			l.reconfigure(sub)
		}
	}
	q.even(lanes)
	return nil
}

// endWaits ends the waits of lanes that nobody has, where the subscription has
// changed since, or is gone: it was the old one that was to be left alone.
func (q *Queue) endWaits(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	rows, err := q.hot.Query(ctx, waitingSQL)
	if err != nil {
		return err
	}
	var (
		id       uuid.UUID
		version  int64
		versions = map[uuid.UUID]int64{}
	)
	if _, err := pgx.ForEachRow(rows, []any{&id, &version}, func() error {
		versions[id] = version
		return nil
	}); err != nil || len(versions) == 0 {
		return err
	}
	subs, err := q.subscriptions(ctx, slices.Collect(maps.Keys(versions)))
	if err != nil {
		return err
	}
	var (
		ended [][16]byte
		held  []int64
	)
	for id, version := range versions {
		if sub, ok := subs[id]; !ok || sub.Active && sub.Version != version {
			ended, held = append(ended, id), append(held, version)
		}
	}
	if len(ended) == 0 {
		return nil
	}
	if _, err := q.hot.Exec(ctx, endWaitSQL, pgx.NamedArgs{"ids": ended, "versions": held}); err != nil {
		return err
	}
	q.wake()
	return nil
}

// even ends idle lanes, and some busy ones while this replica has more than
// its share of them.
func (q *Queue) even(lanes []*lane) {
	var busy []*lane
	for _, l := range lanes {
		if idle := l.idleFor(); idle > idleAfter {
			l.end(endIdle)
		} else if idle == 0 {
			busy = append(busy, l)
		}
	}
	spare := q.surplus.Swap(0)
	for _, l := range busy[:min(int(spare), len(busy))] {
		l.end(endIdle)
	}
}

// release gives a lane back.
func (q *Queue) release(ctx context.Context, id, owner uuid.UUID, token int64) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if _, err := q.hot.Exec(ctx, releaseSQL, pgx.NamedArgs{"id": id, "token": token, "owner": owner}); err != nil {
		// Its next claimant waits for the lease to run out, no more.
		q.log.WarnContext(ctx, "delivery lane not given back", slog.String("subscription", id.String()), slog.Any("error", err))
	}
}

// dropLane settles everything owed to a subscription that no longer exists as
// dropped, and removes its lane.
func (q *Queue) dropLane(ctx context.Context, id, owner uuid.UUID, token int64) {
	for {
		tag, err := q.hot.Exec(ctx, dropLaneSQL, pgx.NamedArgs{"id": id})
		if err != nil {
			q.log.WarnContext(ctx, "deliveries of a deleted subscription not dropped", slog.String("subscription", id.String()), slog.Any("error", err))
			q.release(ctx, id, owner, token)
			return
		}
		if tag.RowsAffected() == 0 {
			break
		}
	}
	if _, err := q.hot.Exec(ctx, forgetLaneSQL, pgx.NamedArgs{"id": id, "token": token, "owner": owner}); err != nil {
		q.log.WarnContext(ctx, "lane of a deleted subscription not removed", slog.String("subscription", id.String()), slog.Any("error", err))
	}
}
