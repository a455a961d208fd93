package delivery

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

const (
	makeLanesSQL = `
INSERT INTO tocsin.lane (subscription_id) SELECT unnest(@ids::uuid[]) ON CONFLICT DO NOTHING`

	// Takes lanes that no replica owns. Those that another is taking are left
	// to the next look.
	claimSQL = `
WITH free AS (
  SELECT l.subscription_id FROM tocsin.lane l
  WHERE l.subscription_id = ANY(@ids::uuid[])
    AND (l.owner IS NULL OR l.owner = @owner OR NOT EXISTS (SELECT FROM tocsin.replica r WHERE r.id = l.owner))
    AND (l.not_before IS NULL OR l.not_before <= clock_timestamp())
  ORDER BY random() LIMIT @most
  FOR UPDATE SKIP LOCKED
)
UPDATE tocsin.lane l
SET owner = @owner, token = l.token + 1, not_before = NULL,
    breaker = CASE WHEN l.breaker = 'closed' THEN 'closed' ELSE 'half-open' END
FROM free WHERE l.subscription_id = free.subscription_id
RETURNING l.subscription_id, l.token, l.breaker, l.opens, l.failing_since`
)

// leftToOthers is how long a replica with its share of lanes leaves a due one
// that nobody owns to the others.
const leftToOthers = 250 * time.Millisecond

// claim takes lanes of those in free: up to this replica's share of the busy
// ones, and beyond it those that other replicas have not claimed for a while. left
// is true if it claimed none of them yet.
func (w *Worker) claim(ctx, life context.Context, free []uuid.UUID, mine, busy int) (left bool, err error) {
	most := max(w.share(busy)-mine, 0)
	if most < len(free) {
		w.mu.Lock()
		var spurned []uuid.UUID
		for _, id := range free {
			if w.now().Sub(w.unseen[id]) > leftToOthers {
				spurned = append(spurned, id)
			}
		}
		w.mu.Unlock()
		if len(spurned) > most {
			free, most = spurned, len(spurned)
		}
	}
	if most == 0 {
		return true, nil
	}
	return false, w.take(ctx, life, free, most)
}

// take takes up to so many of the lanes in free.
func (w *Worker) take(ctx, life context.Context, free []uuid.UUID, most int) error {
	ids := raw(free)
	if _, err := w.hot.Exec(ctx, makeLanesSQL, pgx.NamedArgs{"ids": ids}); err != nil {
		return err
	}
	self := w.replica.self()
	rows, err := w.hot.Query(ctx, claimSQL, pgx.NamedArgs{"ids": ids, "owner": self, "most": most})
	if err != nil {
		return err
	}
	type claimed struct {
		id      uuid.UUID
		token   int64
		breaker breakerRow
	}
	var (
		won []claimed
		c   claimed
	)
	if _, err := pgx.ForEachRow(rows, []any{&c.id, &c.token, &c.breaker.state, &c.breaker.opens, &c.breaker.failingSince}, func() error {
		won = append(won, c)
		return nil
	}); err != nil {
		return err
	}
	if len(won) == 0 {
		return nil
	}
	wonIDs := make([]uuid.UUID, len(won))
	for i, c := range won {
		wonIDs[i] = c.id
	}
	subs, err := w.subscriptions(ctx, wonIDs)
	if err != nil {
		// Not to be held without knowing what they are.
		for _, c := range won {
			w.release(context.WithoutCancel(ctx), c.id, self, c.token)
		}
		return err
	}
	for _, c := range won {
		sub, ok := subs[c.id]
		switch {
		case !ok:
			w.started.Go(func() { w.dropLane(life, c.id, self, c.token) })
		case !sub.Active:
			w.park(sub)
			w.release(ctx, c.id, self, c.token)
		default:
			l := newLane(laneHost{w}, life, sub, self, c.token, c.breaker, w.extra)
			w.mu.Lock()
			delete(w.parked, c.id)
			w.lanes[c.id] = l
			w.metrics.lanes.Inc()
			w.mu.Unlock()
			w.started.Go(l.run)
		}
	}
	return nil
}

// subscriptions reads subscriptions; those that do not exist are left out.
func (w *Worker) subscriptions(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]Subscription, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	targets, err := w.o.Subscriptions.Targets(ctx, ids)
	if err != nil {
		return nil, err
	}
	subs := make(map[uuid.UUID]Subscription, len(targets))
	for id, t := range targets {
		sub, err := FromTarget(t)
		if err != nil {
			return nil, err
		}
		sub.Config = sub.Config.Or(w.o.Config)
		subs[id] = sub
	}
	return subs, nil
}

// park remembers that a subscription is not active, so that its lane is left
// alone until it changes.
func (w *Worker) park(sub Subscription) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.parked[sub.ID] = sub.Version
}

// raw are ids as pgx encodes them fastest.
func raw(ids []uuid.UUID) [][16]byte {
	out := make([][16]byte, len(ids))
	for i, id := range ids {
		out[i] = id
	}
	return out
}
