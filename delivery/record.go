package delivery

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/internal/uuid7"
)

// ErrNotFound says that there is no such delivery (any more).
var ErrNotFound = problem.New(problem.NotFound, "no such delivery")

// Delivery is one event on its way to one subscription, and what became of it.
type Delivery struct {
	ID           uuid.UUID
	Event        uuid.UUID
	Subscription uuid.UUID
	State        string // "pending", "delivered", "dead" or "dropped"
	Attempts     int
	Class        Class // of the last attempt, if there was one
	CreatedAt    time.Time
	DueAt        *time.Time // when the next attempt is due, if it is pending: not before Stats.HeldUntil
	FinishedAt   *time.Time // when it was settled, if it was
	ReplayOf     *uuid.UUID // the delivery that it repeats
}

// Attempt is one try at a delivery.
type Attempt struct {
	Delivery uuid.UUID
	Number   int // from 1
	At       time.Time
	Took     time.Duration
	Class    Class
	Status   int
	Response string // the beginning of the answer
	Error    string
}

// Filter selects deliveries. The zero value selects all.
type Filter struct {
	// Subscriptions, unless nil, are the only ones; an empty slice selects
	// nothing.
	Subscriptions []uuid.UUID
	Event         uuid.UUID // uuid.Nil: any
	// State is "pending", "delivered", "dead" or "dropped"; "" is any. Dead
	// letters that were replayed are not among the "dead".
	State string
	// Since and Until bound when a delivery was enqueued: not before Since,
	// before Until. Zero means no bound.
	Since, Until time.Time
}

// args are the named arguments that every statement over a filter has.
func (f Filter) args() pgx.NamedArgs {
	lo, hi := uuid.Nil, uuid.Max
	if !f.Since.IsZero() {
		lo = uuid7.Floor(f.Since)
	}
	if !f.Until.IsZero() {
		hi = uuid7.Floor(f.Until)
	}
	var event *uuid.UUID
	if f.Event != uuid.Nil {
		event = &f.Event
	}
	return pgx.NamedArgs{"subs": f.Subscriptions, "event": event, "state": f.State, "lo": lo, "hi": hi}
}

// selectedSQL is the condition of a filter on rows of tocsin.queue or
// tocsin.delivery.
const selectedSQL = `
    id >= @lo AND id < @hi
    AND (@subs::uuid[] IS NULL OR subscription_id = ANY(@subs::uuid[]))
    AND (@event::uuid IS NULL OR event_id = @event::uuid)`

// stateSQL adds the filter's state, for rows of tocsin.delivery: in words of
// its own for each, so that its index is found.
func (f Filter) stateSQL() string {
	switch f.State {
	case "":
		return ""
	case stateDelivered:
		return ` AND state = 'delivered'`
	case stateDead:
		return ` AND state = 'dead' AND replayed_at IS NULL`
	case stateDropped:
		return ` AND state = 'dropped'`
	}
	return ` AND FALSE`
}

const (
	// When a pending delivery is due: not while its subscription is to be left
	// alone.
	dueSQL = `greatest(next_attempt_at, (SELECT l.not_before FROM tocsin.lane l WHERE l.subscription_id = queue.subscription_id))`

	listPendingSQL = `
SELECT id, event_id, subscription_id, state, attempts, class, next_attempt_at, finished_at, replay_of FROM (
  (SELECT id, event_id, subscription_id, 'pending' AS state, attempts, class, ` + dueSQL + ` AS next_attempt_at, NULL::timestamptz AS finished_at, replay_of
  FROM tocsin.queue WHERE @state IN ('', 'pending') AND ` + selectedSQL + `
  ORDER BY id DESC LIMIT @most)
  UNION ALL
  (SELECT id, event_id, subscription_id, state, attempts, class, NULL, finished_at, replay_of
  FROM tocsin.delivery WHERE ` + selectedSQL
	listSettledSQL = `
  ORDER BY id DESC LIMIT @most)
) d ORDER BY id DESC LIMIT @most`
)

// Deliveries returns up to most of the deliveries that f selects, the newest
// first, beginning after the one named (uuid.Nil: from the start).
func (s *Store) Deliveries(ctx context.Context, f Filter, after uuid.UUID, most int) ([]Delivery, error) {
	args := f.args()
	args["most"] = most
	if hi := args["hi"].(uuid.UUID); after != uuid.Nil && string(after[:]) < string(hi[:]) {
		args["hi"] = after
	}
	rows, err := s.db.Query(ctx, listPendingSQL+f.stateSQL()+listSettledSQL, args)
	if err != nil {
		return nil, fmt.Errorf("list deliveries: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanDelivery)
	if err != nil {
		return nil, fmt.Errorf("list deliveries: %w", err)
	}
	return list, nil
}

func scanDelivery(row pgx.CollectableRow) (d Delivery, err error) {
	err = row.Scan(&d.ID, &d.Event, &d.Subscription, &d.State, &d.Attempts, &d.Class, &d.DueAt, &d.FinishedAt, &d.ReplayOf)
	d.CreatedAt = uuid7.Time(d.ID)
	return d, err
}

const getSQL = `
SELECT id, event_id, subscription_id, 'pending', attempts, class, ` + dueSQL + `, NULL::timestamptz, replay_of
FROM tocsin.queue WHERE id = @id
UNION ALL
SELECT id, event_id, subscription_id, state, attempts, class, NULL, finished_at, replay_of
FROM tocsin.delivery WHERE id = @id`

// Delivery returns one delivery, or [ErrNotFound].
func (s *Store) Delivery(ctx context.Context, id uuid.UUID) (Delivery, error) {
	rows, err := s.db.Query(ctx, getSQL, pgx.NamedArgs{"id": id})
	if err != nil {
		return Delivery{}, fmt.Errorf("delivery %s: %w", id, err)
	}
	d, err := pgx.CollectOneRow(rows, scanDelivery)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return Delivery{}, fmt.Errorf("delivery %s: %w", id, err)
	}
	return d, nil
}

const attemptsSQL = `
SELECT delivery_id, number, at, ms, class, status, response, error
FROM tocsin.attempt WHERE delivery_id = @id ORDER BY number`

// Attempts returns the attempts made at a delivery, the first one first. One
// under way is not among them.
func (s *Store) Attempts(ctx context.Context, id uuid.UUID) ([]Attempt, error) {
	rows, err := s.db.Query(ctx, attemptsSQL, pgx.NamedArgs{"id": id})
	if err != nil {
		return nil, fmt.Errorf("attempts of delivery %s: %w", id, err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (a Attempt, err error) {
		var ms float32
		err = row.Scan(&a.Delivery, &a.Number, &a.At, &ms, &a.Class, &a.Status, &a.Response, &a.Error)
		a.Took = time.Duration(float64(ms) * float64(time.Millisecond))
		return a, err
	})
	if err != nil {
		return nil, fmt.Errorf("attempts of delivery %s: %w", id, err)
	}
	return list, nil
}
