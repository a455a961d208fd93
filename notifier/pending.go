package notifier

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/schemas"
)

// renderBatch is how many events are rendered at a time.
const renderBatch = 32

const insertPending = `
INSERT INTO tocsin.pending_match (subscription_id, change_id, after, until, update)
SELECT s, @change, @after, @until, @update FROM unnest(@subscriptions::uuid[]) s`

// leaveForLater notes which subscriptions have to see the data of the change's
// events. They are matched when the change has been committed: rendering takes
// time, and the change's rows are not to be seen before.
func (c *change) leaveForLater(ctx context.Context, tx pgx.Tx) error {
	if len(c.pending) == 0 {
		return nil
	}
	ids := slices.SortedFunc(maps.Keys(c.pending), func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	_, err := tx.Exec(ctx, insertPending, pgx.NamedArgs{
		"subscriptions": ids, "change": c.id, "after": c.after, "until": c.until, "update": c.update,
	})
	if err != nil {
		return fmt.Errorf("notifier: note %d subscriptions to be matched with the data: %w", len(ids), err)
	}
	return nil
}

const takePending = `
SELECT id, subscription_id, change_id, after, until, update, digest, attempts FROM tocsin.pending_match
WHERE due_at <= clock_timestamp() ORDER BY due_at, id LIMIT 1 FOR UPDATE SKIP LOCKED`

const advancePending = `UPDATE tocsin.pending_match SET after = @after, digest = @digest, attempts = 0, reason = '' WHERE id = @id`

const postponePending = `
UPDATE tocsin.pending_match SET attempts = attempts + 1, reason = @reason,
  due_at = clock_timestamp() + LEAST(interval '1 second' * 2 ^ LEAST(attempts, 9), interval '5 minutes')
WHERE id = @id`

const deletePending = `DELETE FROM tocsin.pending_match WHERE id = @id`

// pendingMatch is one row of pending_match.
type pendingMatch struct {
	id, changeID int64
	subscription uuid.UUID
	after, until uuid.UUID
	update       schemas.Update
	digest       *digest
	attempts     int
}

// matchPending matches one batch of one pending subscription; false if there
// is none due. What it enqueues and how far it came are committed together.
func (l *Log) matchPending(ctx context.Context) (worked bool, err error) {
	var p pendingMatch
	err = pgx.BeginFunc(ctx, l.Pool, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, takePending).Scan(&p.id, &p.subscription, &p.changeID, &p.after, &p.until, &p.update, &p.digest, &p.attempts)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("notifier: take a pending match: %w", err)
		}
		worked = true
		return l.matchBatch(ctx, tx, &p)
	})
	if err == nil || !worked {
		return worked, err
	}
	if ctx.Err() != nil {
		return worked, err
	}
	if _, e := l.Pool.Exec(ctx, postponePending, pgx.NamedArgs{"id": p.id, "reason": err.Error()}); e != nil {
		err = errors.Join(err, e)
	}
	return worked, fmt.Errorf("notifier: match subscription %s with the data of change %d: %w", p.subscription, p.changeID, err)
}

func (l *Log) matchBatch(ctx context.Context, tx pgx.Tx, p *pendingMatch) error {
	v, err := l.current(ctx, tx)
	if err != nil {
		return err
	}
	s := v.subs[p.subscription]
	if s == nil || s.set == nil { // deleted or disabled meanwhile
		_, err := tx.Exec(ctx, deletePending, pgx.NamedArgs{"id": p.id})
		return err
	}
	rows, err := tx.Query(ctx, wholeEvents, pgx.NamedArgs{"change": p.changeID, "after": p.after, "until": p.until, "limit": 8 * renderBatch})
	if err != nil {
		return fmt.Errorf("read events: %w", err)
	}
	batch, err := pgx.CollectRows(rows, l.scan)
	if err != nil {
		return fmt.Errorf("read events: %w", err)
	}
	last := len(batch) < 8*renderBatch
	if !last {
		p.after = batch[len(batch)-1].id
	}
	batch = slices.DeleteFunc(batch, func(r *record) bool {
		return !s.plan.Allows(&r.Event) || !s.set.MatchAttributes(ctx, &r.Event)
	})
	var owed []schemas.Owed
	for part := range slices.Chunk(batch, renderBatch) {
		if err := l.render(ctx, part); err != nil {
			return err
		}
		for _, r := range part {
			switch {
			case !s.set.Match(ctx, &r.Event):
			case s.digests == "":
				owed = append(owed, schemas.Owed{EventID: r.id, SubscriptionID: s.id})
			default:
				if p.digest == nil {
					p.digest = &digest{}
				}
				p.digest.add(r)
			}
			r.SetData(nil)
		}
	}
	if err := l.enqueue(ctx, tx, owed); err != nil {
		return err
	}
	if !last {
		_, err := tx.Exec(ctx, advancePending, pgx.NamedArgs{"id": p.id, "after": p.after, "digest": p.digest})
		return err
	}
	if p.digest != nil {
		if err := l.finishDigest(ctx, tx, p, s); err != nil {
			return err
		}
	}
	_, err = tx.Exec(ctx, deletePending, pgx.NamedArgs{"id": p.id})
	return err
}

const wholeEvents = `
SELECT ` + recordColumns + ` FROM tocsin.event
WHERE change_id = @change AND type = '` + schemas.TypeVulnerabilitiesChanged + `' AND id > @after AND id < @until
ORDER BY id LIMIT @limit`

func (l *Log) finishDigest(ctx context.Context, tx pgx.Tx, p *pendingMatch, s *subscriber) error {
	r, err := p.digest.record(ctx, l, p.changeID, p.update, s.scope())
	if err != nil {
		return err
	}
	if err := r.insert(ctx, tx); err != nil {
		return err
	}
	l.metrics.events.WithLabelValues(r.Type).Inc()
	return l.enqueue(ctx, tx, []schemas.Owed{{EventID: r.id, SubscriptionID: s.id}})
}

// runPending matches what is pending until ctx ends.
func (l *Log) runPending(ctx context.Context) {
	l.every(ctx, WakeOutbox, func(ctx context.Context) (bool, error) {
		worked, err := l.matchPending(ctx)
		if worked && err == nil && l.Waker != nil {
			l.Waker.Wake(WakeDelivery)
		}
		return worked, err
	})
}
