package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"tocsin.dev/tocsin/delivery"
	"tocsin.dev/tocsin/internal/httpapi"
	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/notifier/eventlog"
	"tocsin.dev/tocsin/notifier/subscription"
)

// statsWindow is how far back success rates and latencies look.
const statsWindow = 24 * time.Hour

// deliveries answers httpapi.Deliveries with the delivery queue, which knows
// no owners: those are the subscriptions'.
type deliveries struct {
	subs   *subscription.Store
	events *eventlog.Log
	queue  *delivery.Store
}

func (s deliveries) List(ctx context.Context, q v1.DeliveryQuery) (v1.Page[v1.Delivery], error) {
	f, err := s.filter(ctx, q)
	if err != nil {
		return v1.Page[v1.Delivery]{}, err
	}
	after := uuid.Nil
	if q.Cursor != "" {
		if after, err = uuid.Parse(q.Cursor); err != nil {
			return v1.Page[v1.Delivery]{}, badCursor(q.Cursor)
		}
	}
	limit := q.Limit
	if limit <= 0 {
		limit = 50
	}
	found, err := s.queue.Deliveries(ctx, f, after, limit)
	if err != nil {
		return v1.Page[v1.Delivery]{}, err
	}
	items, err := s.describe(ctx, found...)
	if err != nil {
		return v1.Page[v1.Delivery]{}, err
	}
	page := v1.Page[v1.Delivery]{Items: items}
	if len(found) == limit {
		page.Next = found[len(found)-1].ID.String()
	}
	return page, nil
}

// filter selects q's deliveries; an owner's subscriptions are looked up.
func (s deliveries) filter(ctx context.Context, q v1.DeliveryQuery) (delivery.Filter, error) {
	f := delivery.Filter{State: q.State, Since: q.Since, Until: q.Until}
	if q.Event != "" {
		id, err := uuid.Parse(q.Event)
		if err != nil {
			return f, &httpapi.FieldError{Field: "event", Message: "is not a UUID", Value: q.Event}
		}
		f.Event = id
	}
	if q.Subscription != "" {
		id, err := uuid.Parse(q.Subscription)
		if err != nil {
			return f, &httpapi.FieldError{Field: "subscription", Message: "is not a UUID", Value: q.Subscription}
		}
		f.Subscriptions = []uuid.UUID{id}
	}
	if q.Owner == "" {
		return f, nil
	}
	own, err := s.subs.OwnedBy(ctx, q.Owner)
	if err != nil {
		return f, err
	}
	switch {
	case q.Subscription == "":
		f.Subscriptions = own
	case !slices.Contains(own, f.Subscriptions[0]):
		f.Subscriptions = []uuid.UUID{} // another owner's: it selects nothing
	}
	return f, nil
}

// describe adds the types of the events.
func (s deliveries) describe(ctx context.Context, ds ...delivery.Delivery) ([]v1.Delivery, error) {
	ids := make([]uuid.UUID, len(ds))
	for i, d := range ds {
		ids[i] = d.Event
	}
	types, err := s.events.Types(ctx, ids)
	if err != nil {
		return nil, err
	}
	out := make([]v1.Delivery, len(ds))
	for i, d := range ds {
		out[i] = v1.Delivery{
			ID: d.ID.String(), EventID: d.Event.String(), EventType: types[d.Event], Subscription: d.Subscription.String(),
			State: d.State, Attempts: d.Attempts, CreatedAt: d.CreatedAt, DueAt: d.DueAt,
		}
		if d.Class != delivery.ClassDelivered {
			out[i].Reason = string(d.Class)
		}
		if d.State == "delivered" {
			out[i].DeliveredAt = d.FinishedAt
		}
	}
	return out, nil
}

// find returns the delivery if the owner may see it.
func (s deliveries) find(ctx context.Context, owner, id string) (delivery.Delivery, error) {
	u, err := uuid.Parse(id)
	if err != nil {
		return delivery.Delivery{}, fmt.Errorf("%w: a delivery's id is a UUID", httpapi.ErrNotFound)
	}
	d, err := s.queue.Delivery(ctx, u)
	if err != nil {
		return d, deliveryError(err)
	}
	if owner == "" {
		return d, nil
	}
	own, err := s.subs.OwnedBy(ctx, owner)
	if err == nil && !slices.Contains(own, d.Subscription) {
		err = fmt.Errorf("%w: no such delivery", httpapi.ErrNotFound)
	}
	return d, err
}

func (s deliveries) Get(ctx context.Context, owner, id string) (v1.Delivery, error) {
	d, err := s.find(ctx, owner, id)
	if err != nil {
		return v1.Delivery{}, err
	}
	return s.one(ctx, d)
}

func (s deliveries) Replay(ctx context.Context, owner, id string) (v1.Delivery, error) {
	return s.with(ctx, owner, id, func(d delivery.Delivery) (delivery.Delivery, error) { return s.queue.Replay(ctx, d.ID) })
}

func (s deliveries) Drop(ctx context.Context, owner, id string) (v1.Delivery, error) {
	return s.with(ctx, owner, id, func(d delivery.Delivery) (delivery.Delivery, error) { return s.queue.Drop(ctx, d.ID) })
}

func (s deliveries) with(ctx context.Context, owner, id string, do func(delivery.Delivery) (delivery.Delivery, error)) (v1.Delivery, error) {
	d, err := s.find(ctx, owner, id)
	if err != nil {
		return v1.Delivery{}, err
	}
	if d, err = do(d); err != nil {
		return v1.Delivery{}, deliveryError(err)
	}
	return s.one(ctx, d)
}

func (s deliveries) one(ctx context.Context, d delivery.Delivery) (v1.Delivery, error) {
	out, err := s.describe(ctx, d)
	if err != nil {
		return v1.Delivery{}, err
	}
	return out[0], nil
}

func (s deliveries) Attempts(ctx context.Context, owner, id string) ([]v1.Attempt, error) {
	d, err := s.find(ctx, owner, id)
	if err != nil {
		return nil, err
	}
	found, err := s.queue.Attempts(ctx, d.ID)
	if err != nil {
		return nil, deliveryError(err)
	}
	out := make([]v1.Attempt, len(found))
	for i, a := range found {
		out[i] = v1.Attempt{
			ID: fmt.Sprintf("%s/%d", a.Delivery, a.Number), DeliveryID: a.Delivery.String(), At: a.At,
			DurationMS: float64(a.Took.Microseconds()) / 1000, Status: a.Status, Outcome: string(a.Class), Error: a.Error, Response: a.Response,
		}
	}
	return out, nil
}

func (s deliveries) ReplayMany(ctx context.Context, q v1.DeliveryQuery) (int, error) {
	f, err := s.filter(ctx, q)
	if err != nil {
		return 0, err
	}
	return s.queue.ReplayAll(ctx, f)
}

func (s deliveries) DropMany(ctx context.Context, q v1.DeliveryQuery) (int, error) {
	f, err := s.filter(ctx, q)
	if err != nil {
		return 0, err
	}
	return s.queue.DropAll(ctx, f)
}

func deliveryError(err error) error {
	if errors.Is(err, delivery.ErrNotFound) {
		return refused(httpapi.ErrNotFound, err)
	}
	return err
}

// stats sums up the queue for the owner's subscriptions, all of them listed.
func (s deliveries) stats(ctx context.Context, owner string) (v1.DeliveryStats, []v1.SubscriptionStats, error) {
	var total v1.DeliveryStats
	states, err := s.subs.States(ctx, owner)
	if err != nil {
		return total, nil, err
	}
	var only []uuid.UUID
	if owner != "" {
		if only, err = s.subs.OwnedBy(ctx, owner); err != nil {
			return total, nil, err
		}
	}
	found, err := s.queue.Stats(ctx, only, statsWindow)
	if err != nil {
		return total, nil, err
	}
	byID := make(map[string]delivery.Stats, len(found))
	for _, f := range found {
		byID[f.Subscription.String()] = f
		total.Backlog += f.Backlog
		total.Dead += f.Dead
		total.OldestSeconds = max(total.OldestSeconds, f.Oldest.Seconds())
	}
	out := make([]v1.SubscriptionStats, len(states))
	for i, state := range states {
		sub := v1.SubscriptionStats{ID: state.ID.String(), Name: state.Name, State: state.State, Breaker: delivery.BreakerClosed, SuccessRate: 1}
		if f, ok := byID[sub.ID]; ok {
			sub.Breaker, sub.HeldUntil = f.Breaker, f.HeldUntil
			sub.Backlog, sub.Dead, sub.OldestSeconds = f.Backlog, f.Dead, f.Oldest.Seconds()
			sub.Attempts, sub.SuccessRate, sub.LastSuccess = f.Attempts, f.SuccessRate(), f.LastSuccess
			sub.P50MS, sub.P99MS = float64(f.P50.Microseconds())/1000, float64(f.P99.Microseconds())/1000
		}
		out[i] = sub
	}
	return total, out, nil
}
