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

	"tocsin.dev/tocsin/notifier/eventlog"
	"tocsin.dev/tocsin/notifier/filter"
	"tocsin.dev/tocsin/schemas"
)

const insertPending = `
INSERT INTO tocsin.pending_match (subscription_id, change_id, after, until, update, attempts, reason, due_at)
SELECT s, @change, @after, @until, @update, @attempts::integer, @reason, now() + @attempts::integer * interval '1 second' FROM unnest(@subscriptions::uuid[]) s`

// leaveForLater notes which subscriptions have to see the data of the change's
// events. They are matched when the change has been committed: a filter over
// data takes its time, rendering the data too, and neither is to hold up who
// announces. The rows of the change can't be rendered before that anyway.
func (c *change) leaveForLater(ctx context.Context, tx pgx.Tx) error {
	ids := slices.SortedFunc(maps.Keys(c.pending), func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	return leaveForLater(ctx, tx, pgx.NamedArgs{
		"subscriptions": ids, "change": c.ID, "after": c.After, "until": c.Until, "update": c.update,
	})
}

// leaveEventForLater notes which subscriptions have to see the data of one event.
func leaveEventForLater(ctx context.Context, tx pgx.Tx, event uuid.UUID, subs []uuid.UUID) error {
	before, behind := neighbours(event)
	return leaveForLater(ctx, tx, pgx.NamedArgs{
		"subscriptions": subs, "change": 0, "after": before, "until": behind, "update": nil,
	})
}

func leaveForLater(ctx context.Context, tx pgx.Tx, args pgx.NamedArgs) error {
	count := len(args["subscriptions"].([]uuid.UUID))
	if count == 0 {
		return nil
	}
	if _, ok := args["attempts"]; !ok {
		args["attempts"], args["reason"] = 0, ""
	}
	if _, err := tx.Exec(ctx, insertPending, args); err != nil {
		return fmt.Errorf("notifier: note %d subscriptions to be matched with the data: %w", count, err)
	}
	return nil
}

// neighbours are the UUIDs right before and right behind one.
func neighbours(id uuid.UUID) (before, behind uuid.UUID) {
	before, behind = id, id
	for i := len(id) - 1; i >= 0; i-- {
		before[i]--
		if before[i] != 0xff {
			break
		}
	}
	for i := len(id) - 1; i >= 0; i-- {
		behind[i]++
		if behind[i] != 0 {
			break
		}
	}
	return before, behind
}

// What waits for the same events is taken together, so that they are rendered
// once. What has failed before is taken alone.
const takePending = `
WITH first AS (
  SELECT id, change_id, after, attempts FROM tocsin.pending_match
  WHERE due_at <= clock_timestamp() ORDER BY due_at, id LIMIT 1 FOR UPDATE SKIP LOCKED
)
SELECT p.id, p.subscription_id, p.change_id, p.after, p.until, p.update, p.digest
FROM first JOIN tocsin.pending_match p ON p.id = first.id
  OR (first.attempts = 0 AND p.attempts = 0 AND p.change_id = first.change_id AND p.after = first.after)
WHERE p.due_at <= clock_timestamp()
ORDER BY p.id LIMIT 256 FOR UPDATE OF p SKIP LOCKED`

const advancePending = `UPDATE tocsin.pending_match SET after = @after, digest = @digest, attempts = 0, reason = '' WHERE id = @id`

// restPending is advancePending for one whose owner's budget of a turn is spent: it
// goes on where it is, once those that are due now have had their turn.
const restPending = `
UPDATE tocsin.pending_match SET after = @after, digest = @digest, attempts = 0, reason = '',
  due_at = clock_timestamp()
WHERE id = @id`

// ownerBudget is what the filters of one owner's subscriptions may cost in one turn,
// in steps ([filter.Meter]): what is over it is matched in later turns, after the
// others'. Nothing is left out for it.
const ownerBudget = 2_000_000

const postponePending = `
UPDATE tocsin.pending_match SET attempts = attempts + 1, reason = @reason,
  due_at = clock_timestamp() + LEAST(interval '1 second' * 2 ^ LEAST(attempts, 9), interval '5 minutes')
WHERE id = ANY(@ids)`

const deletePending = `DELETE FROM tocsin.pending_match WHERE id = @id`

// pendingBatch is how many events are matched in one transaction.
const pendingBatch = 8 * eventlog.RenderBatch

// pendingMatch is one row of pending_match.
type pendingMatch struct {
	id, changeID int64
	subscription uuid.UUID
	after, until uuid.UUID
	update       *schemas.Update
	digest       *digest

	sub  *subscriber
	owed []schemas.NewDelivery

	resting bool      // its owner's budget is spent
	done    uuid.UUID // the last event it was matched with before
}

// matchPending matches one batch of events with what is pending; false if
// nothing is due. What it enqueues and how far it came are committed together.
func (n *Notifier) matchPending(ctx context.Context) (worked bool, err error) {
	var ids []int64
	err = pgx.BeginFunc(ctx, n.Pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, takePending)
		if err != nil {
			return fmt.Errorf("take: %w", err)
		}
		pending, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*pendingMatch, error) {
			p := &pendingMatch{}
			err := row.Scan(&p.id, &p.subscription, &p.changeID, &p.after, &p.until, &p.update, &p.digest)
			ids = append(ids, p.id)
			return p, err
		})
		if err != nil {
			return fmt.Errorf("take: %w", err)
		}
		if len(pending) == 0 {
			return nil
		}
		worked = true
		n.hint(tx)
		return n.matchBatch(ctx, tx, pending)
	})
	if err == nil {
		return worked, nil
	}
	err = fmt.Errorf("notifier: match filters with the data of events: %w", err)
	if ctx.Err() != nil || len(ids) == 0 {
		return worked, err
	}
	if _, e := n.Pool.Exec(ctx, postponePending, pgx.NamedArgs{"ids": ids, "reason": err.Error()}); e != nil {
		err = errors.Join(err, e)
	}
	return worked, err
}

// matchBatch matches the next events with all of pending, which wait for the
// same ones.
func (n *Notifier) matchBatch(ctx context.Context, tx pgx.Tx, pending []*pendingMatch) error {
	v, err := n.subscribers.current(ctx, tx)
	if err != nil {
		return err
	}
	first := pending[0]
	batch, err := n.Log.Between(ctx, tx, first.changeID, first.after, first.until, pendingBatch)
	if err != nil {
		return err
	}
	more, last := len(batch) == pendingBatch, first.after
	if more {
		last = batch[len(batch)-1].UUID
	}
	for _, p := range pending {
		if s := v.subs[p.subscription]; s != nil && s.set != nil {
			p.sub = s // else it was deleted or disabled meanwhile
		}
	}
	meters := map[string]*filter.Meter{}
	for _, p := range pending {
		p.done = first.after
		if p.sub != nil && meters[p.sub.owner] == nil {
			meters[p.sub.owner] = &filter.Meter{}
		}
	}
	for part := range slices.Chunk(batch, eventlog.RenderBatch) {
		if err := n.matchPart(ctx, tx, part, pending, meters); err != nil {
			return err
		}
	}
	for _, p := range pending {
		if err := n.enqueue(ctx, tx, p.owed); err != nil {
			return err
		}
		if p.sub != nil && p.resting {
			args := pgx.NamedArgs{"id": p.id, "after": p.done, "digest": p.digest}
			if _, err := tx.Exec(ctx, restPending, args); err != nil {
				return fmt.Errorf("rest: %w", err)
			}
			continue
		}
		if p.sub != nil && more {
			args := pgx.NamedArgs{"id": p.id, "after": last, "digest": p.digest}
			if _, err := tx.Exec(ctx, advancePending, args); err != nil {
				return fmt.Errorf("advance: %w", err)
			}
			continue
		}
		if p.sub != nil && p.digest != nil {
			if err := n.finishDigest(ctx, tx, p); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, deletePending, pgx.NamedArgs{"id": p.id}); err != nil {
			return fmt.Errorf("finish: %w", err)
		}
	}
	return nil
}

// matchPart renders the events that any of pending may want, and matches them.
// One that can't be rendered is left for later by itself, for those who may
// want it; where it is alone already, it is the error.
func (n *Notifier) matchPart(ctx context.Context, tx pgx.Tx, part []*eventlog.Record, pending []*pendingMatch, meters map[string]*filter.Meter) error {
	may := func(p *pendingMatch, r *eventlog.Record) bool {
		return p.sub != nil && !p.resting && p.sub.plan.Allows(&r.Event) && p.sub.set.MatchAttributes(ctx, &r.Event)
	}
	part = slices.DeleteFunc(part, func(r *eventlog.Record) bool {
		return !slices.ContainsFunc(pending, func(p *pendingMatch) bool { return may(p, r) })
	})
	unreadable, err := n.Log.Render(ctx, part)
	if err != nil {
		return err
	}
	for _, r := range part {
		reason := unreadable[r.UUID]
		if reason == nil {
			reason = n.Log.Complete(ctx, r)
		}
		if reason != nil {
			before, behind := neighbours(r.UUID)
			if first := pending[0]; first.after == before && first.until == behind {
				return reason
			}
			n.Logger.ErrorContext(ctx, "an event can't be rendered and is matched later", "event", r.ID, "reason", reason)
			var subs []uuid.UUID
			for _, p := range pending {
				if may(p, r) {
					subs = append(subs, p.subscription)
				}
				if p.sub != nil && !p.resting {
					p.done = r.UUID
				}
			}
			if err := leaveForLater(ctx, tx, pgx.NamedArgs{
				"subscriptions": subs, "change": pending[0].changeID, "after": before, "until": behind, "update": pending[0].update,
				"attempts": 1, "reason": reason.Error(),
			}); err != nil {
				return err
			}
			continue
		}
		for _, p := range pending {
			if p.sub == nil || p.resting {
				continue
			}
			meter := meters[p.sub.owner]
			if meter.Spent() >= ownerBudget {
				p.resting = true
				continue
			}
			p.done = r.UUID
			switch {
			case !may(p, r) || !p.sub.set.Match(filter.WithMeter(ctx, meter), &r.Event):
			case p.sub.digests != "" && r.Rendered():
				if p.digest == nil {
					p.digest = &digest{}
				}
				p.digest.add(r)
			default:
				p.owed = append(p.owed, schemas.NewDelivery{EventID: r.UUID, SubscriptionID: p.sub.id})
			}
		}
		r.SetData(nil)
	}
	return ctx.Err()
}

func (n *Notifier) finishDigest(ctx context.Context, tx pgx.Tx, p *pendingMatch) error {
	r, err := p.digest.record(ctx, n.Announcer.Events, p.changeID, *p.update, p.sub.scope())
	if err != nil {
		return err
	}
	if err := r.Insert(ctx, tx); err != nil {
		return err
	}
	n.metrics.events.WithLabelValues(r.Type).Inc()
	return n.enqueue(ctx, tx, []schemas.NewDelivery{{EventID: r.UUID, SubscriptionID: p.sub.id}})
}
