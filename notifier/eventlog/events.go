package eventlog

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/schemas"
)

const eventsByID = `SELECT ` + recordColumns + ` FROM tocsin.event WHERE id = ANY(@ids)`

// Events returns those of the events that exist, with their data, as they are
// delivered. They must not be changed. If some can't be read for a reason of
// their own, it returns the others and an [UnreadableError].
func (l *Log) Events(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]event.Event, error) {
	records, err := l.records(ctx, ids)
	if records == nil {
		return nil, err
	}
	out := make(map[uuid.UUID]event.Event, len(records))
	for id, r := range records {
		out[id] = r.CloudEvent()
	}
	return out, err
}

// Event returns one event, or [problem.NotFound].
func (l *Log) Event(ctx context.Context, id uuid.UUID) (event.Event, error) {
	events, err := l.Events(ctx, []uuid.UUID{id})
	if err != nil {
		return event.Event{}, err
	}
	e, ok := events[id]
	if !ok {
		return event.Event{}, problem.New(problem.NotFound, "event %s: not found", id)
	}
	return e, nil
}

// ByID reads those of the events that exist, without the data of those whose
// data is rendered.
func (l *Log) ByID(ctx context.Context, ids ...uuid.UUID) ([]*Record, error) {
	list, err := collect(ctx, l.Pool, eventsByID, pgx.NamedArgs{"ids": ids})
	if err != nil {
		return nil, fmt.Errorf("eventlog: read events: %w", err)
	}
	return list, nil
}

// collect runs a query of recordColumns.
func collect(ctx context.Context, db querier, query string, args pgx.NamedArgs) ([]*Record, error) {
	rows, err := db.Query(ctx, query, args)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scan)
}

// records reads events with their data, and fails as Events does.
func (l *Log) records(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]*Record, error) {
	list, err := l.ByID(ctx, ids...)
	if err != nil {
		return nil, err
	}
	reasons := map[uuid.UUID]error{}
	for part := range slices.Chunk(list, RenderBatch) {
		unreadable, err := l.Render(ctx, part)
		if err != nil {
			return nil, err
		}
		maps.Copy(reasons, unreadable)
	}
	out := make(map[uuid.UUID]*Record, len(list))
	for _, r := range list {
		if reasons[r.UUID] == nil {
			out[r.UUID] = r
		}
	}
	if len(reasons) > 0 {
		return out, &UnreadableError{reasons}
	}
	return out, nil
}

// render gives the records that have none their data.
func (l *Log) render(ctx context.Context, records []*Record) error {
	var keys []schemas.ChangeKey
	var missing []*Record
	for _, r := range records {
		if r.Data == nil && r.Rendered() {
			keys, missing = append(keys, r.Key), append(missing, r)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	if l.Renderer == nil {
		return fmt.Errorf("eventlog: no renderer for the events of updates")
	}
	datas, err := l.Renderer.RenderChanges(ctx, keys, l.DataLimit)
	if err != nil {
		return fmt.Errorf("eventlog: render %d events: %w", len(keys), err)
	}
	if len(datas) != len(keys) {
		return fmt.Errorf("eventlog: %d events rendered as %d", len(keys), len(datas))
	}
	for i, r := range missing {
		data := datas[i]
		r.head(&data)
		text, err := fit(data, l.DataLimit)
		if err != nil {
			return fmt.Errorf("eventlog: data of event %s: %w", r.ID, err)
		}
		r.SetData(text)
		r.Cut = bytes.Contains(text, cutMark)
	}
	return nil
}

// cutMark is in the JSON of data that was cut, and can't be within a text of it.
var cutMark = []byte(`"truncated":true`)

// head sets what the data of a vulnerabilities_changed event has of the event
// itself.
func (r *Record) head(data *schemas.VulnerabilitiesChanged) {
	data.Manifest.Superseded = deref(r.Extensions.Superseded)
	data.Links = schemas.Links{All: r.base.event(r.ID, "findings"), Report: r.base.report(r.Subject)}
}

// Complete gives a record whose data was cut all of its data, so that a filter
// sees what the event is about and not what fitted. What is sent stays cut. It
// may be far larger than DataLimit: complete one record at a time.
func (l *Log) Complete(ctx context.Context, r *Record) error {
	if !r.Cut {
		return nil
	}
	whole, err := l.Whole(ctx, r)
	if err != nil {
		return err
	}
	data := complete(whole[0])
	r.head(&data)
	text, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("eventlog: data of event %s: %w", r.ID, err)
	}
	r.SetData(text)
	r.Cut = false
	return nil
}
