package api

import (
	"context"
	"fmt"
	"slices"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/google/uuid"

	"tocsin.dev/tocsin/internal/httpapi"
	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/notifier"
	"tocsin.dev/tocsin/notifier/eventlog"
	"tocsin.dev/tocsin/notifier/subscription"
	"tocsin.dev/tocsin/schemas"
)

// events answers httpapi.Events with the event log.
type events struct {
	log      *eventlog.Log
	notifier *notifier.Notifier // for digests
	subs     *subscription.Store
	updaters updaters // for the names that there are
}

func (s events) List(ctx context.Context, q v1.EventQuery) (v1.Page[cloudevents.Event], error) {
	page, err := s.log.List(ctx, eventlog.Query{
		Owner: q.Owner, Types: q.Types, Subject: q.Subject, Image: q.Image, Updater: q.Updater, MinRank: q.MinRank,
		Since: q.Since, Until: q.Until, Cursor: q.Cursor, Limit: q.Limit,
	})
	if err == nil && len(page.Items) == 0 && q.Updater != "" && q.Cursor == "" {
		err = s.updaters.known(ctx, q.Updater)
	}
	return v1.Page[cloudevents.Event](page), err
}

func (s events) Get(ctx context.Context, owner, id string) (cloudevents.Event, error) {
	u, err := s.visible(ctx, owner, id)
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

func (s events) Manifests(ctx context.Context, owner, id string, p v1.Paging) (v1.Page[schemas.ChangedManifest], error) {
	u, err := s.visible(ctx, owner, id)
	if err != nil {
		return v1.Page[schemas.ChangedManifest]{}, err
	}
	page, err := s.notifier.Manifests(ctx, u, p.Cursor, p.Limit)
	return v1.Page[schemas.ChangedManifest](page), err
}

// visible is the id of an event that the owner may see; "" sees all. One made for
// another owner, or for another's subscription, is not found.
func (s events) visible(ctx context.Context, owner, id string) (uuid.UUID, error) {
	u, err := eventID(id)
	if err != nil || owner == "" {
		return u, err
	}
	list, err := s.log.ByID(ctx, u)
	if err != nil || len(list) == 0 || list[0].Scope == nil {
		return u, err // one that there is not is not found in its own words
	}
	scope := list[0].Scope
	hidden := scope.Owner != "" && scope.Owner != owner
	if scope.Subscription != "" {
		own, err := s.subs.OwnedBy(ctx, owner)
		if err != nil {
			return u, err
		}
		hidden = hidden || !slices.ContainsFunc(own, func(id uuid.UUID) bool { return id.String() == scope.Subscription })
	}
	if hidden {
		return u, fmt.Errorf("%w: event %s", httpapi.ErrNotFound, u)
	}
	return u, nil
}

func eventID(id string) (uuid.UUID, error) {
	u, err := uuid.Parse(id)
	if err != nil {
		return uuid.Nil, fmt.Errorf("%w: an event's id is a UUID", httpapi.ErrNotFound)
	}
	return u, nil
}
