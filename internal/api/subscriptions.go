package api

import (
	"context"
	"time"

	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/matcher"
	"tocsin.dev/tocsin/notifier"
	"tocsin.dev/tocsin/notifier/subscription"
	"tocsin.dev/tocsin/schemas"
)

// subscriptions answers httpapi.Subscriptions with the notifier.
type subscriptions struct {
	store    *subscription.Store
	notifier *notifier.Notifier
	matcher  *matcher.Engine
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

// currentPage is how many manifests are looked at in one transaction.
const currentPage = 100

func (s subscriptions) Current(ctx context.Context, owner, id string) (sent int, err error) {
	var after int32
	for {
		page, err := s.matcher.Snapshot(ctx, after, currentPage)
		if err != nil {
			return sent, err
		}
		n, err := s.notifier.Current(ctx, owner, id, page)
		if sent += n; err != nil || len(page) < currentPage {
			return sent, err
		}
		after = page[len(page)-1].ManifestID
	}
}

func (s subscriptions) Rotate(ctx context.Context, owner, id string, r v1.RotateRequest) (schemas.Subscription, error) {
	overlap := 24 * time.Hour
	if r.Overlap != nil {
		overlap = time.Duration(*r.Overlap) * time.Second
	}
	return s.store.Rotate(ctx, owner, id, subscription.Rotation{Secret: r.Secret, Kind: r.Kind, Overlap: overlap})
}

func (s subscriptions) DryRun(ctx context.Context, owner string, spec schemas.Subscription, n int) (v1.DryRun, error) {
	d, err := s.notifier.DryRun(ctx, owner, spec, n)
	return v1.DryRun{Events: d.Events, Stopped: d.Stopped, Matched: d.Matched, Sample: d.Sample}, err
}
