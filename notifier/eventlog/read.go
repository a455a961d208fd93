package eventlog

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/schemas"
)

// RenderBatch is how many events are rendered at a time: rendered, each may take
// DataLimit of memory.
const RenderBatch = 32

// Whole is the data of vulnerabilities_changed events, one for each, with their
// lists in full, however long they are: not for more than [RenderBatch] events.
func (l *Log) Whole(ctx context.Context, events ...*Record) ([]schemas.VulnerabilitiesChanged, error) {
	if l.Renderer == nil {
		return nil, fmt.Errorf("eventlog: no renderer for the events of updates")
	}
	keys := make([]schemas.ChangeKey, len(events))
	for i, r := range events {
		keys[i] = r.Key
	}
	datas, err := l.Renderer.RenderChanges(ctx, keys, 0)
	if err != nil {
		return nil, fmt.Errorf("eventlog: render event %s: %w", events[0].ID, err)
	}
	if len(datas) != len(events) {
		return nil, fmt.Errorf("eventlog: %d events from %s on rendered as %d", len(events), events[0].ID, len(datas))
	}
	return datas, nil
}

const eventsBetween = `
SELECT ` + recordColumns + ` FROM tocsin.event
WHERE id > @after AND id < @until
  AND (@change::bigint = 0 OR (change_id = @change AND type = '` + schemas.TypeVulnerabilitiesChanged + `'))
ORDER BY id LIMIT @limit`

// Between reads the next events between two ids, as db sees them, oldest first:
// those of a change, beside which others may lie, or all if changeID is 0. Data
// that is rendered is left out.
func (l *Log) Between(ctx context.Context, db querier, changeID int64, after, until uuid.UUID, limit int) ([]*Record, error) {
	list, err := collect(ctx, db, eventsBetween, pgx.NamedArgs{"change": changeID, "after": after, "until": until, "limit": limit})
	if err != nil {
		return nil, fmt.Errorf("eventlog: read events: %w", err)
	}
	return list, nil
}

const recentEvents = `
SELECT ` + recordColumns + ` FROM tocsin.event
WHERE ` + visibleTo + ` AND id < @before ORDER BY id DESC LIMIT @limit`

// Before reads the events right before an id, newest first: those for everybody
// and those of an owner, of all owners if it is "". Data that is rendered is left
// out.
func (l *Log) Before(ctx context.Context, owner string, id uuid.UUID, limit int) ([]*Record, error) {
	list, err := collect(ctx, l.Pool, recentEvents, pgx.NamedArgs{"owner": owner, "before": id, "limit": limit})
	if err != nil {
		return nil, fmt.Errorf("eventlog: read recent events: %w", err)
	}
	return list, nil
}

const rangeOfChange = `SELECT after, until FROM tocsin.change_events WHERE change_id = @change`

// RangeOf is between which ids the events of a change lie.
func (l *Log) RangeOf(ctx context.Context, changeID int64) (after, until uuid.UUID, err error) {
	if err = l.Pool.QueryRow(ctx, rangeOfChange, pgx.NamedArgs{"change": changeID}).Scan(&after, &until); err != nil {
		err = fmt.Errorf("eventlog: read where the events of change %d lie: %w", changeID, err)
	}
	return after, until, err
}
