package app

import (
	"context"
	"fmt"
	"time"

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

// subscriptions answers httpapi.Subscriptions with the notifier.
type subscriptions struct {
	store    *subscription.Store
	notifier *notifier.Notifier
}

func (s subscriptions) List(ctx context.Context, owner string, p v1.Paging) (v1.Page[schemas.Subscription], error) {
	list, next, err := s.store.List(ctx, owner, p.Cursor, p.Limit)
	if list == nil {
		list = []schemas.Subscription{}
	}
	return v1.Page[schemas.Subscription]{Items: list, Next: next}, err
}

func (s subscriptions) Get(ctx context.Context, owner, id string) (schemas.Subscription, error) {
	return s.store.Get(ctx, owner, id)
}

func (s subscriptions) Create(ctx context.Context, owner string, spec schemas.Subscription) (schemas.Subscription, bool, error) {
	return s.store.Create(ctx, owner, spec)
}

func (s subscriptions) Replace(ctx context.Context, owner, id string, spec schemas.Subscription) (schemas.Subscription, error) {
	return s.store.Replace(ctx, owner, id, spec)
}

func (s subscriptions) Delete(ctx context.Context, owner, id string) error {
	return s.store.Delete(ctx, owner, id)
}

func (s subscriptions) Pause(ctx context.Context, owner, id string) (schemas.Subscription, error) {
	return s.store.Pause(ctx, owner, id)
}

func (s subscriptions) Resume(ctx context.Context, owner, id string) (schemas.Subscription, error) {
	return s.store.Resume(ctx, owner, id)
}

func (s subscriptions) Test(ctx context.Context, owner, id string) (string, error) {
	return s.notifier.Ping(ctx, owner, id)
}

func (s subscriptions) Rotate(ctx context.Context, owner, id string, r v1.RotateRequest) (schemas.Subscription, error) {
	return s.store.Rotate(ctx, owner, id, subscription.Rotation{Secret: r.Secret, Overlap: time.Duration(r.Overlap) * time.Second})
}

func (s subscriptions) DryRun(ctx context.Context, spec schemas.Subscription, n int) (v1.DryRun, error) {
	d, err := s.notifier.DryRun(ctx, spec, n)
	return v1.DryRun{Events: d.Events, Matched: d.Matched, Sample: d.Sample}, err
}
