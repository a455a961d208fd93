package api

import (
	"context"
	"fmt"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/google/uuid"

	"tocsin.dev/tocsin/internal/httpapi"
	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/notifier"
	"tocsin.dev/tocsin/notifier/eventlog"
	"tocsin.dev/tocsin/schemas"
)

// events answers httpapi.Events with the event log.
type events struct {
	log      *eventlog.Log
	notifier *notifier.Notifier // for digests
}

func (s events) List(ctx context.Context, q v1.EventQuery) (v1.Page[cloudevents.Event], error) {
	page, err := s.log.List(ctx, eventlog.Query{
		Types: q.Types, Subject: q.Subject, Image: q.Image, Updater: q.Updater, MinRank: q.MinRank,
		Since: q.Since, Until: q.Until, Cursor: q.Cursor, Limit: q.Limit,
	})
	return v1.Page[cloudevents.Event](page), err
}

func (s events) Get(ctx context.Context, id string) (cloudevents.Event, error) {
	u, err := eventID(id)
	if err != nil {
		return cloudevents.Event{}, err
	}
	return s.log.Event(ctx, u)
}

func (s events) Findings(ctx context.Context, id, kind string, p v1.Paging) (v1.Page[v1.EventFinding], error) {
	u, err := eventID(id)
	if err != nil {
		return v1.Page[v1.EventFinding]{}, err
	}
	found, err := s.log.Findings(ctx, u, kind, p.Cursor, p.Limit)
	page := v1.Page[v1.EventFinding]{Items: make([]v1.EventFinding, len(found.Items)), Next: found.Next}
	for i, f := range found.Items {
		page.Items[i] = v1.EventFinding{Kind: f.Kind, Finding: f.Finding}
	}
	return page, err
}

func (s events) Manifests(ctx context.Context, id string, p v1.Paging) (v1.Page[schemas.ChangedManifest], error) {
	u, err := eventID(id)
	if err != nil {
		return v1.Page[schemas.ChangedManifest]{}, err
	}
	page, err := s.notifier.Manifests(ctx, u, p.Cursor, p.Limit)
	return v1.Page[schemas.ChangedManifest](page), err
}

func eventID(id string) (uuid.UUID, error) {
	u, err := uuid.Parse(id)
	if err != nil {
		return uuid.Nil, fmt.Errorf("%w: an event's id is a UUID", httpapi.ErrNotFound)
	}
	return u, nil
}
