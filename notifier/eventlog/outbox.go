package eventlog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/internal/uuid7"
	"tocsin.dev/tocsin/schemas"
)

// subjectPrefix starts the NATS subject of every event; the rest is the
// event's type after "dev.tocsin.".
const subjectPrefix = "tocsin.events."

// Bounds of one turn of the relay.
const (
	relayBatch       = RenderBatch // events taken at a time; rendered, they may take DataLimit each
	relayConcurrency = 16          // events published at a time
)

const takeOutbox = `
SELECT event_id FROM tocsin.outbox WHERE due_at <= clock_timestamp()
ORDER BY event_id LIMIT @limit FOR UPDATE SKIP LOCKED`

const clearOutbox = `DELETE FROM tocsin.outbox WHERE event_id = ANY(@ids)`

const postponeOutbox = `
UPDATE tocsin.outbox SET attempts = attempts + 1, reason = @reason,
  due_at = clock_timestamp() + LEAST(interval '100 milliseconds' * 2 ^ LEAST(attempts, 12), interval '5 minutes')
WHERE event_id = ANY(@ids)`

// unrenderedOutbox puts off events that could not be read, for whatever reason
// each has.
const unrenderedOutbox = `
UPDATE tocsin.outbox o SET attempts = attempts + 1, reason = f.reason,
  due_at = clock_timestamp() + LEAST(interval '1 second' * 2 ^ LEAST(attempts, 9), interval '5 minutes')
FROM unnest(@ids::uuid[], @reasons::text[]) AS f(id, reason)
WHERE o.event_id = f.id`

// relay publishes one batch of the outbox and deletes it there once NATS has
// stored it; false if there is none. If the deletion fails, the batch is
// published again under the same message ids. The rows stay locked meanwhile, so
// that replicas take others. An event that can't be read, or that fails while
// others succeed, is postponed, so that it holds nothing up; if NATS takes none
// at all, NATS is taken to be away and all wait.
func (l *Log) relay(ctx context.Context) (worked bool, err error) {
	err = pgx.BeginFunc(ctx, l.Pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, takeOutbox, pgx.NamedArgs{"limit": relayBatch})
		if err != nil {
			return fmt.Errorf("eventlog: take from the outbox: %w", err)
		}
		ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		if err != nil {
			return fmt.Errorf("eventlog: take from the outbox: %w", err)
		}
		if len(ids) == 0 {
			return nil
		}
		records, ids, unreadable, err := l.outgoing(ctx, ids)
		if err != nil {
			return err
		}
		if err := l.putOff(ctx, tx, unreadable); err != nil {
			return err
		}
		worked = len(unreadable) > 0
		published, failed, err := l.publish(ctx, ids, records)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if len(published) == 0 {
			if worked && err != nil {
				l.Logger.WarnContext(ctx, "events could not be published", "events", len(failed), "reason", err)
				return nil // keep what was put off
			}
			return err
		}
		worked = true
		if _, err := tx.Exec(ctx, clearOutbox, pgx.NamedArgs{"ids": published}); err != nil {
			return fmt.Errorf("eventlog: clear the outbox: %w", err)
		}
		if len(failed) == 0 {
			return nil
		}
		l.Logger.WarnContext(ctx, "events could not be published and are put off", "events", len(failed), "reason", err)
		if _, err := tx.Exec(ctx, postponeOutbox, pgx.NamedArgs{"ids": failed, "reason": err.Error()}); err != nil {
			return fmt.Errorf("eventlog: put off in the outbox: %w", err)
		}
		return nil
	})
	return worked && err == nil, err
}

// outgoing reads the events of the outbox. It returns the ids without those
// that can't be read, and why those can't. An event that retention has dropped
// has no record.
func (l *Log) outgoing(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]*Record, []uuid.UUID, map[uuid.UUID]error, error) {
	records, err := l.records(ctx, ids)
	unreadable := map[uuid.UUID]error{}
	if some, ok := errors.AsType[*UnreadableError](err); ok {
		unreadable = some.reasons
	} else if err != nil {
		return nil, nil, nil, err
	}
	dropped := uuid7.Floor(l.Now().Add(-l.Retention)) // only retention takes events away
	readable := make([]uuid.UUID, 0, len(ids))
	for _, id := range ids {
		if records[id] == nil && unreadable[id] == nil && bytes.Compare(id[:], dropped[:]) >= 0 {
			unreadable[id] = problem.New(problem.NotFound, "eventlog: event %s of the outbox: not found", id)
		}
		if unreadable[id] == nil {
			readable = append(readable, id)
		}
	}
	return records, readable, unreadable, nil
}

// putOff postpones events that can't be read.
func (l *Log) putOff(ctx context.Context, tx pgx.Tx, unreadable map[uuid.UUID]error) error {
	if len(unreadable) == 0 {
		return nil
	}
	ids, reasons := make([]uuid.UUID, 0, len(unreadable)), make([]string, 0, len(unreadable))
	for id, reason := range unreadable {
		l.Logger.ErrorContext(ctx, "an event can't be read and is published later", "event", id, "reason", reason)
		l.relayFails.Inc()
		ids, reasons = append(ids, id), append(reasons, reason.Error())
	}
	if _, err := tx.Exec(ctx, unrenderedOutbox, pgx.NamedArgs{"ids": ids, "reasons": reasons}); err != nil {
		return fmt.Errorf("eventlog: put off in the outbox: %w", err)
	}
	return nil
}

// publish publishes the events and says which were stored, which were not, and
// why not. One without a record counts as stored.
func (l *Log) publish(ctx context.Context, ids []uuid.UUID, records map[uuid.UUID]*Record) (published, failed []uuid.UUID, err error) {
	var (
		mu   sync.Mutex
		wg   sync.WaitGroup
		slot = make(chan struct{}, relayConcurrency)
	)
	for _, id := range ids {
		slot <- struct{}{}
		wg.Go(func() {
			defer func() { <-slot }()
			e := l.publishOne(ctx, id, records[id])
			mu.Lock()
			defer mu.Unlock()
			if e != nil {
				l.relayFails.Inc()
				failed, err = append(failed, id), e
				return
			}
			l.relayed.Inc()
			published = append(published, id)
		})
	}
	wg.Wait()
	return published, failed, err
}

func (l *Log) publishOne(ctx context.Context, id uuid.UUID, r *Record) error {
	if r == nil {
		return nil
	}
	out, err := r.outward()
	if err != nil {
		return err
	}
	body, err := json.Marshal(out.CloudEvent())
	if err != nil {
		return fmt.Errorf("eventlog: event %s as JSON: %w", id, err)
	}
	subject := subjectPrefix + strings.TrimPrefix(r.Type, schemas.TypePrefix)
	if err := l.Publisher.Publish(ctx, subject, id.String(), body); err != nil {
		return fmt.Errorf("eventlog: publish event %s: %w", id, err)
	}
	return nil
}

// outward is the event as everybody on NATS may read it. An owner's event about a
// subscription names neither the subscription nor its host there; whoever may see
// all of it reads it from the API by its id.
func (r *Record) outward() (*Record, error) {
	if r.Scope == nil || r.Scope.Owner == "" {
		return r, nil
	}
	var whole schemas.SubscriptionState
	if err := json.Unmarshal(r.Data, &whole); err != nil {
		return nil, fmt.Errorf("eventlog: data of event %s: %w", r.ID, err)
	}
	text, err := json.Marshal(schemas.SubscriptionState{
		Subscription: whole.Subscription, Protocol: whole.Protocol, Since: whole.Since, Failures: whole.Failures,
	})
	if err != nil {
		return nil, fmt.Errorf("eventlog: data of event %s: %w", r.ID, err)
	}
	out := *r
	out.SetData(text)
	return &out, nil
}
