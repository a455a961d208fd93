package notifier

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/traceparent"
	"tocsin.dev/tocsin/notifier/filter"
	"tocsin.dev/tocsin/schemas"
)

// record is one row of the event log. Data is nil where it is rendered from
// key.
type record struct {
	filter.Event
	id    uuid.UUID
	base  base
	key   schemas.ChangeKey
	scope *scope

	listed *schemas.ChangedManifest // as a digest lists it
}

// scope says whom an event was made for, if not for everybody.
type scope struct {
	Subscription string           `json:"subscription,omitempty"` // this one alone
	Filters      []schemas.Filter `json:"filters,omitempty"`      // a digest of the events these filters let through
}

// rendered says whether the event's data is rendered when it is read.
func (r *record) rendered() bool { return r.Type == schemas.TypeVulnerabilitiesChanged }

const recordColumns = `id, type, source, COALESCE(subject, ''), time, severityrank::integer, fixable, kev, epss::integer,
  updater, image, added, removed, revised, firstload, COALESCE(traceparent, ''),
  COALESCE(manifest_id, 0), COALESCE(change_id, 0), COALESCE(inventory_id, 0), COALESCE(naming_id, 0), scope, data,
  base, (SELECT b.url FROM tocsin.base_url b WHERE b.id = base)`

// scan reads recordColumns.
func (l *Log) scan(row pgx.CollectableRow) (*record, error) {
	r := &record{}
	x := &r.Extensions
	var data []byte
	err := row.Scan(&r.id, &r.Type, &r.Source, &r.Subject, &r.Time, &x.SeverityRank, &x.Fixable, &x.KEV, &x.EPSS,
		&x.Updater, &x.Image, &x.Added, &x.Removed, &x.Revised, &x.FirstLoad, &r.TraceParent,
		&r.key.ManifestID, &r.key.ChangeID, &r.key.InventoryID, &r.key.NamingID, &r.scope, &data, &r.base.id, &r.base.url)
	if err != nil {
		return nil, err
	}
	r.ID, r.Time, r.Data = r.id.String(), r.Time.UTC(), data
	x.Severity = severityName(x.SeverityRank)
	r.DataSchema = r.base.schema(r.Type)
	return r, nil
}

// severityName is the severity attribute that goes with a rank.
func severityName(rank *int32) *string {
	if rank == nil || *rank < 0 || int(*rank) >= len(schemas.SeverityNames) {
		return nil
	}
	return &schemas.SeverityNames[*rank]
}

// newRecord is a new event of this moment with data.
func (l *Log) newRecord(ctx context.Context, typ, subject string, x schemas.Extensions, data any) (*record, error) {
	source, err := l.eventSource(ctx)
	if err != nil {
		return nil, err
	}
	base, err := l.eventBase(ctx)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(data)
	if err != nil {
		return nil, fmt.Errorf("notifier: data of %s: %w", typ, err)
	}
	if x.Severity == nil {
		x.Severity = severityName(x.SeverityRank)
	}
	now := l.Now().UTC()
	id := newID(now)
	return &record{id: id, base: base, Event: filter.Event{
		ID: id.String(), Source: source, Type: typ, Subject: subject, DataSchema: base.schema(typ),
		TraceParent: traceparent.From(traceparent.Start(ctx)), Time: now.Truncate(time.Microsecond), Extensions: x, Data: text,
	}}, nil
}

// newID is a version 7 UUID of a moment: milliseconds, twelve bits of their
// fraction, random bits (RFC 9562, section 6.2, method 3).
func newID(at time.Time) uuid.UUID {
	id := uuid.New()
	floor := uuidFloor(at.UnixMilli())
	copy(id[:6], floor[:6])
	fraction := at.Nanosecond() % 1e6 * 4096 / 1e6
	id[6], id[7] = 0x70|byte(fraction>>8), byte(fraction)
	return id
}

// uuidFloor is the smallest version 7 UUID of a millisecond; of one before 1970
// the smallest of all.
func uuidFloor(ms int64) uuid.UUID {
	var id uuid.UUID
	if ms < 0 {
		return id
	}
	binary.BigEndian.PutUint64(id[:8], uint64(ms)<<16|0x7000)
	id[8] = 0x80
	return id
}

const insertRecord = `
WITH written AS (
  INSERT INTO tocsin.event (id, type, source, subject, time, severityrank, fixable, kev, epss, base, updater, image,
    added, removed, revised, firstload, traceparent, manifest_id, change_id, inventory_id, naming_id, scope, data)
  VALUES (@id, @type, @source, NULLIF(@subject, ''), @time, @severityrank, @fixable, @kev, @epss, @base, @updater, @image,
    @added, @removed, @revised, @firstload, NULLIF(@traceparent, ''),
    COALESCE(NULLIF(@manifest_id::integer, 0), (SELECT m.id FROM tocsin.manifest m WHERE m.digest = @subject)),
    NULLIF(@change_id::bigint, 0), NULLIF(@inventory_id::bigint, 0), NULLIF(@naming_id::bigint, 0), @scope, @data)
  RETURNING id
)
INSERT INTO tocsin.outbox (event_id) SELECT id FROM written WHERE @publish::boolean`

// insert writes the event, and its place in the outbox unless it is made for
// some alone.
func (r *record) insert(ctx context.Context, tx pgx.Tx) error {
	x := r.Extensions
	_, err := tx.Exec(ctx, insertRecord, pgx.NamedArgs{
		"id": r.id, "type": r.Type, "source": r.Source, "subject": r.Subject, "time": r.Time,
		"severityrank": x.SeverityRank, "fixable": x.Fixable, "kev": x.KEV, "epss": x.EPSS, "base": r.base.id, "updater": x.Updater, "image": x.Image,
		"added": x.Added, "removed": x.Removed, "revised": x.Revised, "firstload": x.FirstLoad, "traceparent": r.TraceParent,
		"manifest_id": r.key.ManifestID, "change_id": r.key.ChangeID, "inventory_id": r.key.InventoryID, "naming_id": r.key.NamingID,
		"scope": r.scope, "data": r.Data, "publish": r.scope == nil,
	})
	if err != nil {
		return fmt.Errorf("notifier: write event %s: %w", r.Type, err)
	}
	return nil
}
