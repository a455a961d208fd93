package eventlog

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/notifier/filter"
	"tocsin.dev/tocsin/schemas"
)

// Record is one event of the log. Its Data is nil where it has not been read
// yet: see [Log.Render]. A Record serves one goroutine at a time.
type Record struct {
	filter.Event
	UUID  uuid.UUID         // Event.ID
	Key   schemas.ChangeKey // of the rows that the event is about
	Scope *Scope            // nil: the event is for everybody
	Cut   bool              // Data does not have all findings: see Log.Complete

	base   base
	listed *schemas.ChangedManifest // see Listed
}

// Scope says whom an event was made for, if not for everybody.
type Scope struct {
	Subscription string           `json:"subscription,omitempty"` // this one alone
	Owner        string           `json:"owner,omitempty"`        // whoever has subscriptions under this name
	Filters      []schemas.Filter `json:"filters,omitempty"`      // a digest of the events that these filters let through
}

// Listed is a vulnerabilities_changed event as a digest lists it. It is shared
// and must not be changed.
func (r *Record) Listed() *schemas.ChangedManifest {
	if r.listed == nil {
		x := r.Extensions
		r.listed = &schemas.ChangedManifest{
			Event: r.ID, Digest: r.Subject, Image: deref(x.Image), Severity: deref(x.Severity), Fixable: deref(x.Fixable), KEV: deref(x.KEV),
			Added: int(deref(x.Added)), Removed: int(deref(x.Removed)), Revised: int(deref(x.Revised)),
			Superseded: deref(x.Superseded),
		}
	}
	return r.listed
}

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// Rendered reports whether the event's data is rendered when it is read, and not
// kept.
func (r *Record) Rendered() bool { return r.Type == schemas.TypeVulnerabilitiesChanged }

// attributeColumns are the columns of schemas.Attributes that have one, in their
// order; the last holds all others.
const attributeColumns = `severityrank::integer, fixable, kev, epss::integer, updater, image, added, removed, revised, firstload, attributes`

// eventNames are all names of an event's image: those of its naming.
const eventNames = `COALESCE((SELECT n.names FROM tocsin.naming n WHERE n.id = naming_id), '{}')`

const recordColumns = `id, type, source, COALESCE(subject, ''), time, ` + attributeColumns + `, COALESCE(traceparent, ''),
  COALESCE(manifest_id, 0), COALESCE(change_id, 0), COALESCE(inventory_id, 0), COALESCE(naming_id, 0), ` + eventNames + `, scope, data,
  base, (SELECT b.url FROM tocsin.base_url b WHERE b.id = base)`

// scan reads recordColumns.
func scan(row pgx.CollectableRow) (*Record, error) {
	r := &Record{}
	var data, others []byte
	into := append(make([]any, 0, 27), &r.UUID, &r.Type, &r.Source, &r.Subject, &r.Time)
	into = appendAttributes(into, &r.Extensions, &others)
	into = append(into, &r.TraceParent,
		&r.Key.ManifestID, &r.Key.ChangeID, &r.Key.InventoryID, &r.Key.NamingID, &r.Names, &r.Scope, &data, &r.base.id, &r.base.url)
	if err := row.Scan(into...); err != nil {
		return nil, err
	}
	r.ID, r.Time, r.Data = r.UUID.String(), r.Time.UTC(), data
	r.DataSchema = r.base.schema(r.Type)
	return r, r.complete(others)
}

// appendAttributes appends what attributeColumns are scanned into.
func appendAttributes(into []any, x *schemas.Extensions, others *[]byte) []any {
	for _, a := range schemas.Attributes {
		if a.HasColumn() {
			into = append(into, a.Column(x))
		}
	}
	return append(into, others)
}

// complete sets the attributes that have no column.
func (r *Record) complete(others []byte) error {
	r.Extensions.Severity = severityName(r.Extensions.SeverityRank)
	return r.Extensions.SetOthers(others)
}

// severityName is the severity attribute that goes with a rank.
func severityName(rank *int32) *string {
	if rank == nil || *rank < 0 || int(*rank) >= len(schemas.SeverityNames) {
		return nil
	}
	return &schemas.SeverityNames[*rank]
}

const insertRecord = `
WITH written AS (
  INSERT INTO tocsin.event (id, type, source, subject, time, severityrank, fixable, kev, epss, base, updater, image,
    added, removed, revised, firstload, attributes, traceparent, manifest_id, change_id, inventory_id, naming_id, scope, data)
  VALUES (@id, @type, @source, NULLIF(@subject, ''), @time, @severityrank, @fixable, @kev, @epss, @base, @updater, @image,
    @added, @removed, @revised, @firstload, @attributes, NULLIF(@traceparent, ''),
    COALESCE(NULLIF(@manifest_id::integer, 0), (SELECT m.id FROM tocsin.manifest m WHERE m.digest = @subject)),
    NULLIF(@change_id::bigint, 0), NULLIF(@inventory_id::bigint, 0), NULLIF(@naming_id::bigint, 0), @scope, @data)
  RETURNING id
)
INSERT INTO tocsin.outbox (event_id) SELECT id FROM written WHERE @publish::boolean`

// public says whether the event goes out on NATS: unless it is made for one
// subscription. Of one that is an owner's alone, little goes out: see outward.
func (r *Record) public() bool { return r.Scope == nil || r.Scope.Owner != "" }

// visibleTo is the condition that an owner may see an event in a list: those made
// for everybody, and the owner's own; all owners' if @owner is empty.
const visibleTo = `(scope IS NULL OR scope ? 'owner' AND (@owner = '' OR scope->>'owner' = @owner))`

// Insert writes the event in tx, and its place in the outbox unless it is made
// for one subscription.
func (r *Record) Insert(ctx context.Context, tx pgx.Tx) error {
	args := pgx.NamedArgs{
		"id": r.UUID, "type": r.Type, "source": r.Source, "subject": r.Subject, "time": r.Time, "base": r.base.id, "traceparent": r.TraceParent,
		"manifest_id": r.Key.ManifestID, "change_id": r.Key.ChangeID, "inventory_id": r.Key.InventoryID, "naming_id": r.Key.NamingID,
		"scope": r.Scope, "data": r.Data, "publish": r.public(), "attributes": nil,
	}
	for _, a := range schemas.Attributes {
		if v, ok := a.Of(&r.Extensions); a.HasColumn() && ok {
			args[a.Name] = v
		} else if a.HasColumn() {
			args[a.Name] = nil
		}
	}
	if others := r.Extensions.Others(); others != nil {
		args["attributes"] = others
	}
	if _, err := tx.Exec(ctx, insertRecord, args); err != nil {
		return fmt.Errorf("eventlog: write event %s: %w", r.Type, err)
	}
	return nil
}
