package delivery

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

const (
	// Pending deliveries become due at once.
	hastenSQL = `
UPDATE tocsin.queue SET next_attempt_at = now()
WHERE @state IN ('', 'pending') AND ` + selectedSQL

	// A chunk of settled deliveries becomes pending again: each (event,
	// subscription) once, and not at all if it is pending already.
	chooseSQL = `
WITH chosen AS (
  SELECT id, event_id, subscription_id FROM tocsin.delivery
  WHERE ` + selectedSQL
	replaySQL = `
  ORDER BY id DESC LIMIT @most
), again AS (
  INSERT INTO tocsin.queue (id, event_id, subscription_id, replay_of)
  SELECT tocsin.uuidv7(), s.event_id, s.subscription_id, s.id
  FROM (SELECT DISTINCT ON (subscription_id, event_id) * FROM chosen ORDER BY subscription_id, event_id, id) s
  WHERE NOT EXISTS (SELECT FROM tocsin.queue q WHERE q.event_id = s.event_id AND q.subscription_id = s.subscription_id)
  ORDER BY s.event_id
  RETURNING id
), marked AS (
  UPDATE tocsin.delivery d SET replayed_at = now() FROM chosen s WHERE d.id = s.id
)
SELECT (SELECT id FROM chosen ORDER BY id LIMIT 1), (SELECT count(*) FROM chosen), (SELECT count(*) FROM again)`

	dropPendingSQL = `
WITH gone AS (
  DELETE FROM tocsin.queue WHERE id IN (
    SELECT id FROM tocsin.queue WHERE @state IN ('', 'pending') AND ` + selectedSQL + ` LIMIT @most)
  RETURNING id, event_id, subscription_id, attempts, class, replay_of
)
INSERT INTO tocsin.delivery (id, event_id, subscription_id, state, attempts, class, replay_of)
SELECT id, event_id, subscription_id, 'dropped', attempts, class, replay_of FROM gone`

	dropDeadSQL = `
UPDATE tocsin.delivery SET state = 'dropped'
WHERE @state IN ('', 'dead') AND state = 'dead' AND replayed_at IS NULL AND ` + selectedSQL

	replayOneSQL = `
WITH again AS (
  INSERT INTO tocsin.queue (id, event_id, subscription_id, replay_of)
  SELECT @new, event_id, subscription_id, id FROM tocsin.delivery WHERE id = @id
  RETURNING replay_of
)
UPDATE tocsin.delivery SET replayed_at = now() WHERE id = (SELECT replay_of FROM again)`

	hastenOneSQL = `UPDATE tocsin.queue SET next_attempt_at = now() WHERE id = @id`
)

// chunk is how many deliveries one statement of a bulk operation touches, so
// that none holds locks for long.
const chunk = 5000

// Replay makes a delivery due now: a pending one as it is; for a settled one
// there is a new delivery of the same event, with attempts of its own. It
// returns the delivery that is now pending, or [ErrNotFound].
func (s *Store) Replay(ctx context.Context, id uuid.UUID) (Delivery, error) {
	tag, err := s.db.Exec(ctx, hastenOneSQL, pgx.NamedArgs{"id": id})
	if err == nil && tag.RowsAffected() == 0 {
		old := id
		if id, err = uuid.NewV7(); err == nil {
			tag, err = s.db.Exec(ctx, replayOneSQL, pgx.NamedArgs{"id": old, "new": id})
		}
		if err == nil && tag.RowsAffected() == 0 {
			id, err = old, ErrNotFound
		}
	}
	if err != nil {
		return Delivery{}, fmt.Errorf("replay delivery %s: %w", id, err)
	}
	s.wake()
	return s.Delivery(ctx, id)
}

// ReplayAll does what [Store.Replay] does to all that f selects and that is
// there now, each event once a subscription, and returns how many deliveries
// it made due. It works in chunks: after an error, part of it is done, and it
// can be repeated.
func (s *Store) ReplayAll(ctx context.Context, f Filter) (int, error) {
	now := s.now()
	if f.Until.IsZero() || f.Until.After(now) {
		f.Until = now // not what this makes
	}
	args := f.args()
	args["most"] = chunk
	tag, err := s.db.Exec(ctx, hastenSQL, args)
	if err != nil {
		return 0, fmt.Errorf("replay deliveries: %w", err)
	}
	total := int(tag.RowsAffected())
	defer s.wake()
	for f.State != statePending {
		var (
			last        *uuid.UUID
			seen, again int
		)
		if err := s.db.QueryRow(ctx, chooseSQL+f.stateSQL()+replaySQL, args).Scan(&last, &seen, &again); err != nil {
			return total, fmt.Errorf("replay deliveries: %w", err)
		}
		total += again
		if seen < chunk {
			break
		}
		args["hi"] = *last
	}
	return total, nil
}

// Drop settles a pending delivery or a dead letter as dropped and returns it,
// or [ErrNotFound]. One that is delivered stays so. An attempt under way may
// still succeed.
func (s *Store) Drop(ctx context.Context, id uuid.UUID) (Delivery, error) {
	args := Filter{}.args()
	args["lo"], args["hi"], args["most"] = id, next(id), 1
	for _, sql := range []string{dropPendingSQL, dropDeadSQL} {
		if _, err := s.db.Exec(ctx, sql, args); err != nil {
			return Delivery{}, fmt.Errorf("drop delivery %s: %w", id, err)
		}
	}
	return s.Delivery(ctx, id)
}

// DropAll drops the pending deliveries and dead letters that f selects and
// returns how many. It works in chunks: after an error, part of it is done,
// and it can be repeated.
func (s *Store) DropAll(ctx context.Context, f Filter) (int, error) {
	args := f.args()
	args["most"] = chunk
	total := 0
	for {
		tag, err := s.db.Exec(ctx, dropPendingSQL, args)
		if err != nil {
			return total, fmt.Errorf("drop deliveries: %w", err)
		}
		total += int(tag.RowsAffected())
		if tag.RowsAffected() < chunk {
			break
		}
	}
	delete(args, "most")
	tag, err := s.db.Exec(ctx, dropDeadSQL, args)
	if err != nil {
		return total, fmt.Errorf("drop dead letters: %w", err)
	}
	return total + int(tag.RowsAffected()), nil
}

// next is the UUID after id.
func next(id uuid.UUID) uuid.UUID {
	for i := len(id) - 1; i >= 0; i-- {
		id[i]++
		if id[i] != 0 {
			break
		}
	}
	return id
}
