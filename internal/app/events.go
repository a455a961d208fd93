package app

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/google/uuid"

	"tocsin.dev/tocsin/internal/httpapi"
	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/notifier"
	"tocsin.dev/tocsin/schemas"
)

// events answers httpapi.Events with the event log.
type events struct{ log *notifier.Log }

func (s events) List(ctx context.Context, q v1.EventQuery) (v1.Page[cloudevents.Event], error) {
	page, err := s.log.List(ctx, notifier.EventQuery{
		Types: q.Types, Subject: q.Subject, Image: q.Image, Updater: q.Updater, MinRank: q.MinRank,
		Since: q.Since, Until: q.Until, Cursor: q.Cursor, Limit: q.Limit,
	})
	return v1.Page[cloudevents.Event](page), notifierError(err)
}

func (s events) Get(ctx context.Context, id string) (cloudevents.Event, error) {
	u, err := eventID(id)
	if err != nil {
		return cloudevents.Event{}, err
	}
	e, err := s.log.Event(ctx, u)
	return e, notifierError(err)
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
	return page, notifierError(err)
}

func (s events) Manifests(ctx context.Context, id string, p v1.Paging) (v1.Page[schemas.ChangedManifest], error) {
	u, err := eventID(id)
	if err != nil {
		return v1.Page[schemas.ChangedManifest]{}, err
	}
	page, err := s.log.Manifests(ctx, u, p.Cursor, p.Limit)
	return v1.Page[schemas.ChangedManifest](page), notifierError(err)
}

func eventID(id string) (uuid.UUID, error) {
	u, err := uuid.Parse(id)
	if err != nil {
		return uuid.Nil, fmt.Errorf("%w: an event's id is a UUID", httpapi.ErrNotFound)
	}
	return u, nil
}

// notifierError turns the notifier's errors into those the API knows.
func notifierError(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*notifier.Error](err); ok {
		var fields []error
		for _, f := range e.Fields {
			message := f.Detail
			if f.Hint != "" {
				message += " (" + f.Hint + ")"
			}
			fields = append(fields, &httpapi.FieldError{Field: fieldPath(f.Pointer), Message: message})
		}
		return errors.Join(fields...)
	}
	switch {
	case errors.Is(err, notifier.ErrNotFound):
		return refused(httpapi.ErrNotFound, err)
	case errors.Is(err, notifier.ErrConflict):
		return refused(httpapi.ErrConflict, err)
	}
	return err
}

// fieldPath writes a JSON pointer as the API writes paths: "/filters/0/sql"
// becomes "filters[0].sql".
func fieldPath(pointer string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		part = strings.NewReplacer("~1", "/", "~0", "~").Replace(part)
		switch {
		case part != "" && strings.Trim(part, "0123456789") == "":
			b.WriteString("[" + part + "]")
		case b.Len() > 0:
			b.WriteString("." + part)
		default:
			b.WriteString(part)
		}
	}
	return b.String()
}

// subscriptions answers httpapi.Subscriptions with the notifier.
type subscriptions struct{ log *notifier.Log }

func (s subscriptions) List(ctx context.Context, owner string, p v1.Paging) (v1.Page[schemas.Subscription], error) {
	page, err := s.log.ListSubscriptions(ctx, owner, p.Cursor, p.Limit)
	return v1.Page[schemas.Subscription](page), notifierError(err)
}

func (s subscriptions) Get(ctx context.Context, owner, id string) (schemas.Subscription, error) {
	sub, err := s.log.GetSubscription(ctx, owner, id)
	return sub, notifierError(err)
}

func (s subscriptions) Create(ctx context.Context, owner string, spec schemas.Subscription) (schemas.Subscription, bool, error) {
	sub, created, err := s.log.CreateSubscription(ctx, owner, spec)
	return sub, created, notifierError(err)
}

func (s subscriptions) Replace(ctx context.Context, owner, id string, spec schemas.Subscription) (schemas.Subscription, error) {
	sub, err := s.log.ReplaceSubscription(ctx, owner, id, spec)
	return sub, notifierError(err)
}

func (s subscriptions) Delete(ctx context.Context, owner, id string) error {
	return notifierError(s.log.DeleteSubscription(ctx, owner, id))
}

func (s subscriptions) Pause(ctx context.Context, owner, id string) (schemas.Subscription, error) {
	sub, err := s.log.PauseSubscription(ctx, owner, id)
	return sub, notifierError(err)
}

func (s subscriptions) Resume(ctx context.Context, owner, id string) (schemas.Subscription, error) {
	sub, err := s.log.ResumeSubscription(ctx, owner, id)
	return sub, notifierError(err)
}

func (s subscriptions) Test(ctx context.Context, owner, id string) (string, error) {
	event, err := s.log.PingSubscription(ctx, owner, id)
	return event, notifierError(err)
}

func (s subscriptions) Rotate(ctx context.Context, owner, id string, r v1.RotateRequest) (schemas.Subscription, error) {
	sub, err := s.log.RotateSecret(ctx, owner, id, notifier.Rotation{Secret: r.Secret, Overlap: time.Duration(r.Overlap) * time.Second})
	return sub, notifierError(err)
}

func (s subscriptions) DryRun(ctx context.Context, spec schemas.Subscription, n int) (v1.DryRun, error) {
	d, err := s.log.DryRun(ctx, spec, n)
	return v1.DryRun{Events: d.Events, Matched: d.Matched, Sample: d.Sample}, notifierError(err)
}
