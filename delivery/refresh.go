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

// refreshes applies changes of subscriptions and evens lanes out between
// replicas, until ctx ends.
func (w *Worker) refreshes(ctx context.Context) {
	t := time.NewTicker(w.o.Refresh)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if err := w.refresh(ctx); err != nil && ctx.Err() == nil {
			w.log.WarnContext(ctx, "subscriptions not read", slog.Any("error", err))
		}
		if err := w.endWaits(ctx); err != nil && ctx.Err() == nil {
			w.log.WarnContext(ctx, "waiting subscriptions not read", slog.Any("error", err))
		}
	}
}

func (w *Worker) refresh(ctx context.Context) error {
	w.mu.Lock()
	parked := maps.Clone(w.parked)
	w.mu.Unlock()
	lanes := w.owned()
	ids := slices.Collect(maps.Keys(parked))
	for _, l := range lanes {
		ids = append(ids, l.id)
	}
	if len(ids) == 0 {
		return nil
	}
	subs, err := w.subscriptions(ctx, ids)
	if err != nil {
		return err
	}
	for id, version := range parked {
		if sub, ok := subs[id]; !ok || sub.Version != version && sub.Active {
			w.mu.Lock()
			delete(w.parked, id)
			w.mu.Unlock()
			w.wake()
		}
	}
	for _, l := range lanes {
		switch sub, ok := subs[l.id]; {
		case !ok:
			l.post(end(endDeleted))
		case !sub.Active:
			w.park(sub)
			l.post(end(endInactive))
		case sub.Version != l.told:
			l.told = sub.Version
			l.post(reconfigured(sub))
		}
	}
	w.even()
	return nil
}

// endWaits ends the waits of lanes that nobody has, where the subscription has
// changed since, or is gone: the pause was meant for the old one.
func (w *Worker) endWaits(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	rows, err := w.hot.Query(ctx, waitingSQL)
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
	subs, err := w.subscriptions(ctx, slices.Collect(maps.Keys(versions)))
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
	if _, err := w.hot.Exec(ctx, endWaitSQL, pgx.NamedArgs{"ids": ended, "versions": held}); err != nil {
		return err
	}
	w.wake()
	return nil
}

// even gives up lanes that the last look at the queue found too many.
func (w *Worker) even() {
	w.mu.Lock()
	surplus := w.surplus
	w.surplus = nil
	w.mu.Unlock()
	for _, l := range surplus {
		l.post(end(endIdle))
	}
}

// release gives a lane back.
func (w *Worker) release(ctx context.Context, id, owner uuid.UUID, token int64) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if _, err := w.hot.Exec(ctx, releaseSQL, pgx.NamedArgs{"id": id, "token": token, "owner": owner}); err != nil {
		// Its next claimant waits for the lease to run out, no more.
		w.log.WarnContext(ctx, "delivery lane not given back", slog.String("subscription", id.String()), slog.Any("error", err))
	}
}

// dropLane settles everything pending for a subscription that no longer exists as
// dropped, and removes its lane.
func (w *Worker) dropLane(ctx context.Context, id, owner uuid.UUID, token int64) {
	for {
		tag, err := w.hot.Exec(ctx, dropLaneSQL, pgx.NamedArgs{"id": id})
		if err != nil {
			w.log.WarnContext(ctx, "deliveries of a deleted subscription not dropped", slog.String("subscription", id.String()), slog.Any("error", err))
			w.release(ctx, id, owner, token)
			return
		}
		if tag.RowsAffected() == 0 {
			break
		}
	}
	if _, err := w.hot.Exec(ctx, forgetLaneSQL, pgx.NamedArgs{"id": id, "token": token, "owner": owner}); err != nil {
		w.log.WarnContext(ctx, "lane of a deleted subscription not removed", slog.String("subscription", id.String()), slog.Any("error", err))
	}
}
