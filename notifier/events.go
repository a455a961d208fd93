package notifier

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/schemas"
)

// ErrNotFound is what there is no such thing.
var ErrNotFound = errors.New("not found")

// ErrConflict is what can't be done to a thing as it is now.
var ErrConflict = errors.New("conflict")

const eventsByID = `SELECT ` + recordColumns + ` FROM tocsin.event WHERE id = ANY(@ids)`

// Events returns those of the events that there are, with their data, as they
// are delivered. They must not be changed.
func (l *Log) Events(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]event.Event, error) {
	records, err := l.records(ctx, ids)
	if err != nil {
		return nil, err
	}
	out := make(map[uuid.UUID]event.Event, len(records))
	for id, r := range records {
		out[id] = r.CloudEvent()
	}
	return out, nil
}

// Event returns one event, or ErrNotFound.
func (l *Log) Event(ctx context.Context, id uuid.UUID) (event.Event, error) {
	events, err := l.Events(ctx, []uuid.UUID{id})
	if err != nil {
		return event.Event{}, err
	}
	e, ok := events[id]
	if !ok {
		return event.Event{}, fmt.Errorf("event %s: %w", id, ErrNotFound)
	}
	return e, nil
}

// records reads events with their data.
func (l *Log) records(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]*record, error) {
	rows, err := l.Pool.Query(ctx, eventsByID, pgx.NamedArgs{"ids": ids})
	if err != nil {
		return nil, fmt.Errorf("notifier: read events: %w", err)
	}
	list, err := pgx.CollectRows(rows, l.scan)
	if err != nil {
		return nil, fmt.Errorf("notifier: read events: %w", err)
	}
	for part := range slices.Chunk(list, renderBatch) {
		if err := l.render(ctx, part); err != nil {
			return nil, err
		}
	}
	out := make(map[uuid.UUID]*record, len(list))
	for _, r := range list {
		out[r.id] = r
	}
	return out, nil
}

// render gives the records that have none their data.
func (l *Log) render(ctx context.Context, records []*record) error {
	var keys []schemas.ChangeKey
	var missing []*record
	for _, r := range records {
		if r.Data == nil && r.rendered() {
			keys, missing = append(keys, r.key), append(missing, r)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	if l.Renderer == nil {
		return fmt.Errorf("notifier: no renderer for the events of updates")
	}
	datas, err := l.Renderer.RenderChanges(ctx, keys, l.DataLimit)
	if err != nil {
		return fmt.Errorf("notifier: render %d events: %w", len(keys), err)
	}
	if len(datas) != len(keys) {
		return fmt.Errorf("notifier: %d events rendered as %d", len(keys), len(datas))
	}
	for i, r := range missing {
		data := datas[i]
		data.Links = schemas.Links{
			All:    l.PublicURL + "/api/v1/events/" + r.ID + "/findings",
			Report: l.PublicURL + "/api/v1/images/" + r.Subject + "/report",
		}
		text, err := fit(data, l.DataLimit)
		if err != nil {
			return fmt.Errorf("notifier: data of event %s: %w", r.ID, err)
		}
		r.SetData(text)
	}
	return nil
}

// fit marshals the data in at most limit bytes: of its lists it keeps the most
// severe findings, whichever list they are in, and says so if it cut any.
func fit(data schemas.VulnerabilitiesChanged, limit int) ([]byte, error) {
	data.Manifest = filled(data.Manifest)
	whole, err := json.Marshal(complete(data))
	if err != nil || len(whole) <= limit {
		return whole, err
	}
	lists := data
	data.Added, data.Removed, data.Revised, data.Truncated = []schemas.Finding{}, []schemas.Finding{}, []schemas.RevisedFinding{}, true
	frame, err := json.Marshal(data)
	if err != nil {
		return nil, err
	}
	for room := limit - len(frame); ; {
		// The next of each list; they are sorted, most severe first.
		best, rank := 0, -1
		for i, next := range []func() (string, bool){
			func() (string, bool) {
				return head(lists.Added, func(f schemas.Finding) string { return f.NormalizedSeverity })
			},
			func() (string, bool) {
				return head(lists.Revised, func(f schemas.RevisedFinding) string { return f.NormalizedSeverity })
			},
			func() (string, bool) {
				return head(lists.Removed, func(f schemas.Finding) string { return f.NormalizedSeverity })
			},
		} {
			if s, ok := next(); ok && schemas.SeverityRank(s) > rank {
				best, rank = i, schemas.SeverityRank(s)
			}
		}
		if rank < 0 {
			break
		}
		var size int
		switch best {
		case 0:
			size, err = sizeOf(lists.Added[0])
		case 1:
			size, err = sizeOf(lists.Revised[0])
		default:
			size, err = sizeOf(lists.Removed[0])
		}
		if err != nil {
			return nil, err
		}
		if room -= size; room < 0 {
			break
		}
		switch best {
		case 0:
			data.Added, lists.Added = append(data.Added, lists.Added[0]), lists.Added[1:]
		case 1:
			data.Revised, lists.Revised = append(data.Revised, lists.Revised[0]), lists.Revised[1:]
		default:
			data.Removed, lists.Removed = append(data.Removed, lists.Removed[0]), lists.Removed[1:]
		}
	}
	return json.Marshal(complete(data))
}

func head[T any](list []T, severity func(T) string) (string, bool) {
	if len(list) == 0 {
		return "", false
	}
	return severity(list[0]), true
}

// sizeOf is the bytes that v takes in a list, its comma included.
func sizeOf(v any) (int, error) {
	text, err := json.Marshal(v)
	return len(text) + 1, err
}

// complete makes empty lists of absent ones, as the schemas ask.
func complete(d schemas.VulnerabilitiesChanged) schemas.VulnerabilitiesChanged {
	d.Added, d.Removed = findings(d.Added), findings(d.Removed)
	revised := make([]schemas.RevisedFinding, len(d.Revised))
	for i, f := range d.Revised {
		f.Finding = finding(f.Finding)
		if f.Changes == nil {
			f.Changes = []schemas.FieldChange{}
		}
		revised[i] = f
	}
	d.Revised = revised
	return d
}

func findings(list []schemas.Finding) []schemas.Finding {
	out := make([]schemas.Finding, len(list))
	for i, f := range list {
		out[i] = finding(f)
	}
	return out
}

func finding(f schemas.Finding) schemas.Finding {
	if f.Aliases == nil {
		f.Aliases = []string{}
	}
	if f.Links == nil {
		f.Links = []string{}
	}
	return f
}
