package eventlog

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/traceparent"
	"tocsin.dev/tocsin/internal/uuid7"
	"tocsin.dev/tocsin/notifier/filter"
	"tocsin.dev/tocsin/schemas"
)

// Ids are given most severe first, so that whoever reads a change's events in
// the order of their ids reads the worst first. They are version 7 UUIDs
// (RFC 9562, section 6.2, method 1): milliseconds, a counter of 4,096 a
// millisecond, then bits that are random but for all events of a change alike.
const insertChanged = `
WITH placed AS (
  SELECT *, row_number() OVER (ORDER BY severityrank DESC NULLS LAST, kev DESC, fixable DESC, added DESC, manifest_id) - 1 AS place
  FROM affected_manifest
), ranked AS (
  SELECT a.*, m.digest, n.names[1] AS image
  FROM placed a
  JOIN tocsin.manifest m ON m.id = a.manifest_id
  LEFT JOIN tocsin.naming n ON n.id = a.naming_id
), written AS (
  INSERT INTO tocsin.event (id, type, source, subject, time, severityrank, fixable, kev, epss, base, updater, image,
    added, removed, revised, firstload, attributes, traceparent, manifest_id, change_id, inventory_id, naming_id)
  SELECT (lpad(to_hex(((@ms::bigint + place / 4096) << 16) | 28672 | (place % 4096)), 16, '0') || @tail)::uuid,
    @type, @source, digest, @time, severityrank, COALESCE(fixable, FALSE), COALESCE(kev, FALSE),
    epss, @base, @updater, image, added, removed, revised, @firstload, attributes, NULLIF(@traceparent, ''), manifest_id, @change, inventory_id, naming_id
  FROM ranked
  RETURNING id
)
INSERT INTO tocsin.outbox (event_id) SELECT id FROM written`

const insertChangeEvents = `INSERT INTO tocsin.change_events (change_id, after, until) VALUES (@change, @after, @until)`

// Changed is the events of one change, as [Writer.InsertChanged] wrote them.
type Changed struct {
	ID           int64
	Events       int64     // how many
	After, Until uuid.UUID // their ids lie between these
	like         filter.Event
}

// InsertChanged writes in tx one vulnerabilities_changed event for each row of
// the transaction's temporary table affected_manifest, and their places in the
// outbox. It is called once a change.
func (w *Writer) InsertChanged(ctx context.Context, tx pgx.Tx, changeID int64, update schemas.Update) (Changed, error) {
	source, err := w.eventSource(ctx)
	if err != nil {
		return Changed{}, err
	}
	base, err := w.eventBase(ctx)
	if err != nil {
		return Changed{}, err
	}
	trace := traceparent.From(traceparent.Start(ctx)) // the same for all of them
	now := w.Now().UTC().Truncate(time.Microsecond)
	tag, err := tx.Exec(ctx, insertChanged, pgx.NamedArgs{
		"ms": now.UnixMilli(), "type": schemas.TypeVulnerabilitiesChanged, "source": source, "time": now, "base": base.id, "updater": update.Updater,
		"firstload": update.FirstLoad, "traceparent": trace, "change": changeID,
		"tail": strings.ReplaceAll(uuid.NewString(), "-", "")[16:],
	})
	if err != nil {
		return Changed{}, fmt.Errorf("eventlog: write the events of change %d: %w", changeID, err)
	}
	n := tag.RowsAffected()
	c := Changed{
		ID: changeID, Events: n, After: uuid7.Floor(now), Until: uuid7.Floor(now.Add(time.Duration(n/4096+1) * time.Millisecond)),
		like: filter.Event{
			Type: schemas.TypeVulnerabilitiesChanged, Source: source, Time: now, TraceParent: trace,
			DataSchema: base.schema(schemas.TypeVulnerabilitiesChanged), Extensions: schemas.Extensions{Updater: &update.Updater, FirstLoad: &update.FirstLoad},
		},
	}
	if n == 0 {
		return c, nil
	}
	if _, err := tx.Exec(ctx, insertChangeEvents, pgx.NamedArgs{"change": changeID, "after": c.After, "until": c.Until}); err != nil {
		return Changed{}, fmt.Errorf("eventlog: write where the events of change %d lie: %w", changeID, err)
	}
	return c, nil
}

const changedEvents = `
SELECT id, subject, ` + eventNames + `, ` + attributeColumns + `
FROM tocsin.event
WHERE change_id = @change AND type = '` + schemas.TypeVulnerabilitiesChanged + `' AND id > @after AND id < @until
ORDER BY id LIMIT @batch`

// Read reads the change's next events after an id, as db sees them, at most
// limit, with their attributes alone.
func (c *Changed) Read(ctx context.Context, db querier, after uuid.UUID, limit int) ([]*Record, error) {
	rows, err := db.Query(ctx, changedEvents, pgx.NamedArgs{"change": c.ID, "after": after, "until": c.Until, "batch": limit})
	if err != nil {
		return nil, fmt.Errorf("eventlog: read the events of change %d: %w", c.ID, err)
	}
	batch, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*Record, error) {
		r := &Record{Event: c.like}
		var others []byte
		err := row.Scan(appendAttributes(append(make([]any, 0, 16), &r.UUID, &r.Subject, &r.Names), &r.Extensions, &others)...)
		if err != nil {
			return nil, err
		}
		r.ID = r.UUID.String()
		return r, r.complete(others)
	})
	if err != nil {
		return nil, fmt.Errorf("eventlog: read the events of change %d: %w", c.ID, err)
	}
	return batch, nil
}
