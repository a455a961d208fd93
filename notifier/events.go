package notifier

import (
	"context"
	"errors"
	"fmt"
	"maps"
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
// are delivered. They must not be changed. Where some can't be read for a
// reason of their own, it returns the others and an [UnreadableError].
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

// records reads events with their data, and fails as Events does.
func (l *Log) records(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]*record, error) {
	rows, err := l.Pool.Query(ctx, eventsByID, pgx.NamedArgs{"ids": ids})
	if err != nil {
		return nil, fmt.Errorf("notifier: read events: %w", err)
	}
	list, err := pgx.CollectRows(rows, l.scan)
	if err != nil {
		return nil, fmt.Errorf("notifier: read events: %w", err)
	}
	reasons := map[uuid.UUID]error{}
	for part := range slices.Chunk(list, renderBatch) {
		unreadable, err := l.renderEach(ctx, part)
		if err != nil {
			return nil, err
		}
		maps.Copy(reasons, unreadable)
	}
	out := make(map[uuid.UUID]*record, len(list))
	for _, r := range list {
		if reasons[r.id] == nil {
			out[r.id] = r
		}
	}
	if len(reasons) > 0 {
		return out, &UnreadableError{reasons}
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
			All:    r.base.event(r.ID, "findings"),
			Report: r.base.report(r.Subject),
		}
		text, err := fit(data, l.DataLimit)
		if err != nil {
			return fmt.Errorf("notifier: data of event %s: %w", r.ID, err)
		}
		r.SetData(text)
	}
	return nil
}
