package notifier

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/traceparent"
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
    added, removed, revised, firstload, traceparent, manifest_id, change_id, inventory_id, naming_id)
  SELECT (lpad(to_hex(((@ms::bigint + place / 4096) << 16) | 28672 | (place % 4096)), 16, '0') || @tail)::uuid,
    @type, @source, digest, @time, CASE WHEN added + revised > 0 THEN severityrank END, COALESCE(fixable, FALSE), COALESCE(kev, FALSE),
    epss, @base, @updater, image, added, removed, revised, @firstload, NULLIF(@traceparent, ''), manifest_id, @change, inventory_id, naming_id
  FROM ranked
  RETURNING id
)
INSERT INTO tocsin.outbox (event_id) SELECT id FROM written`

const insertChangeEvents = `INSERT INTO tocsin.change_events (change_id, after, until) VALUES (@change, @after, @until)`

const sumChanged = `
SELECT count(*), COALESCE(sum(added), 0), COALESCE(sum(removed), 0), COALESCE(sum(revised), 0),
  COALESCE(max(severityrank) FILTER (WHERE added + revised > 0), -1)::integer,
  COALESCE(bool_or(fixable), FALSE), COALESCE(bool_or(kev), FALSE), max(epss)::integer,
  count(*) FILTER (WHERE severityrank = 0 AND added + revised > 0), count(*) FILTER (WHERE severityrank = 1 AND added + revised > 0),
  count(*) FILTER (WHERE severityrank = 2 AND added + revised > 0), count(*) FILTER (WHERE severityrank = 3 AND added + revised > 0),
  count(*) FILTER (WHERE severityrank = 4 AND added + revised > 0), count(*) FILTER (WHERE severityrank = 5 AND added + revised > 0)
FROM affected_manifest`

const changedEvents = `
SELECT id, subject, severityrank::integer, fixable, kev, epss::integer, image, added, removed, revised
FROM tocsin.event
WHERE change_id = @change AND type = '` + schemas.TypeVulnerabilitiesChanged + `' AND id > @after AND id < @until
ORDER BY id LIMIT @batch`

// ManifestsChanged announces in tx one event for each row of the transaction's
// temporary table affected_manifest, and digests for those who want them, and
// says how many events it was without the digests. It is called once a change.
// It reads the events back in batches, so that its memory does not grow with
// their number.
func (l *Log) ManifestsChanged(ctx context.Context, tx pgx.Tx, changeID int64, update schemas.Update) (int64, error) {
	defer l.metrics.since(time.Now())
	source, err := l.eventSource(ctx)
	if err != nil {
		return 0, err
	}
	base, err := l.eventBase(ctx)
	if err != nil {
		return 0, err
	}
	ctx = traceparent.Start(ctx) // the same for all of them
	now := l.Now().UTC().Truncate(time.Microsecond)
	tag, err := tx.Exec(ctx, insertChanged, pgx.NamedArgs{
		"ms": now.UnixMilli(), "type": schemas.TypeVulnerabilitiesChanged, "source": source, "time": now, "base": base.id, "updater": update.Updater,
		"firstload": update.FirstLoad, "traceparent": traceparent.From(ctx), "change": changeID,
		"tail": strings.ReplaceAll(uuid.NewString(), "-", "")[16:],
	})
	if err != nil {
		return 0, fmt.Errorf("notifier: write the events of change %d: %w", changeID, err)
	}
	n := tag.RowsAffected()
	if n == 0 {
		return 0, nil
	}
	l.metrics.events.WithLabelValues(schemas.TypeVulnerabilitiesChanged).Add(float64(n))
	v, err := l.current(ctx, tx)
	if err != nil {
		return 0, err
	}
	after, until := uuidFloor(now.UnixMilli()), uuidFloor(now.UnixMilli()+n/4096+1)
	if _, err := tx.Exec(ctx, insertChangeEvents, pgx.NamedArgs{"change": changeID, "after": after, "until": until}); err != nil {
		return 0, fmt.Errorf("notifier: write where the events of change %d lie: %w", changeID, err)
	}
	c := &change{
		log: l, view: v, id: changeID, update: update, digests: map[string]*digest{}, pending: map[uuid.UUID]*subscriber{},
		after: after, until: until,
		like: filter.Event{Type: schemas.TypeVulnerabilitiesChanged, Source: source, Time: now, TraceParent: traceparent.From(ctx),
			DataSchema: base.schema(schemas.TypeVulnerabilitiesChanged), Extensions: ofUpdate(update)},
	}
	if err := c.match(ctx, tx); err != nil {
		return 0, err
	}
	if err := c.leaveForLater(ctx, tx); err != nil {
		return 0, err
	}
	if err := c.writeDigests(ctx, tx); err != nil {
		return 0, err
	}
	return n, nil
}

// change is the work of one ManifestsChanged.
type change struct {
	log          *Log
	view         *view
	id           int64
	update       schemas.Update
	like         filter.Event // what all the change's events have alike
	after, until uuid.UUID    // around their ids
	digests      map[string]*digest
	pending      map[uuid.UUID]*subscriber // to be matched with the data, later
}

// digest is the one of a group.
func (c *change) digest(group string) *digest {
	d := c.digests[group]
	if d == nil {
		d = &digest{}
		c.digests[group] = d
	}
	return d
}

// match reads the events back, a batch at a time, and enqueues what they are
// owed to.
func (c *change) match(ctx context.Context, tx pgx.Tx) error {
	events, digests := c.view.index.types[schemas.TypeVulnerabilitiesChanged], c.view.index.digests
	if events.empty() && digests.empty() {
		return nil
	}
	var owed []schemas.Owed
	for after := c.after; ; {
		batch, err := c.read(ctx, tx, after, c.log.Batch)
		if err != nil {
			return err
		}
		for _, e := range batch {
			for s := range matching(ctx, events, &e.Event) {
				if s.set.NeedsData() {
					c.pending[s.id] = s
				} else {
					owed = append(owed, schemas.Owed{EventID: e.id, SubscriptionID: s.id})
				}
			}
			for s := range matching(ctx, digests, &e.Event) {
				if s.set.NeedsData() {
					c.pending[s.id] = s
				} else {
					c.digest(s.digests).add(e)
				}
			}
			if len(owed) >= c.log.Batch {
				if err := c.log.enqueue(ctx, tx, owed); err != nil {
					return err
				}
				owed = owed[:0]
			}
		}
		if len(batch) < c.log.Batch {
			return c.log.enqueue(ctx, tx, owed)
		}
		after = batch[len(batch)-1].id
	}
}

// read is the next events after one id, at most limit, with their attributes
// alone.
func (c *change) read(ctx context.Context, db querier, after uuid.UUID, limit int) ([]*record, error) {
	rows, err := db.Query(ctx, changedEvents, pgx.NamedArgs{"change": c.id, "after": after, "until": c.until, "batch": limit})
	if err != nil {
		return nil, fmt.Errorf("notifier: read the events of change %d: %w", c.id, err)
	}
	batch, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*record, error) {
		r := &record{Event: c.like}
		x := &r.Extensions
		err := row.Scan(&r.id, &r.Subject, &x.SeverityRank, &x.Fixable, &x.KEV, &x.EPSS, &x.Image, &x.Added, &x.Removed, &x.Revised)
		r.ID = r.id.String()
		x.Severity = severityName(x.SeverityRank)
		return r, err
	})
	if err != nil {
		return nil, fmt.Errorf("notifier: read the events of change %d: %w", c.id, err)
	}
	return batch, nil
}
