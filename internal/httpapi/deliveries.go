package httpapi

import (
	"context"
	"time"

	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
)

// Deliveries is the delivery queue: package delivery.
type Deliveries interface {
	List(ctx context.Context, q v1.DeliveryQuery) (v1.Page[v1.Delivery], error)
	Get(ctx context.Context, owner, id string) (v1.Delivery, error)
	Attempts(ctx context.Context, owner, id string) ([]v1.Attempt, error)
	// Replay makes a delivery due now, whatever its state, under the same
	// event id.
	Replay(ctx context.Context, owner, id string) (v1.Delivery, error)
	Drop(ctx context.Context, owner, id string) (v1.Delivery, error)
	// ReplayMany and DropMany do it to all that q selects, whatever its paging.
	ReplayMany(ctx context.Context, q v1.DeliveryQuery) (int, error)
	DropMany(ctx context.Context, q v1.DeliveryQuery) (int, error)
}

// Selection is the query that picks deliveries.
type Selection struct {
	Subscription string    `query:"subscription" doc:"Only this subscription's" format:"uuid"`
	Event        string    `query:"event" doc:"Only this event's" format:"uuid"`
	State        string    `query:"state" enum:"pending,delivered,dead,dropped" doc:"Only deliveries in this state"`
	Since        time.Time `query:"since" doc:"Not before this time"`
	Until        time.Time `query:"until" doc:"Before this time"`
}

func (q Selection) query(owner string) v1.DeliveryQuery {
	return v1.DeliveryQuery{Owner: owner, Subscription: q.Subscription, Event: q.Event, State: q.State, Since: q.Since, Until: q.Until}
}

// whole reports whether nothing was picked: everything is meant.
func (q Selection) whole() bool { return q == Selection{} }

func (s *server) registerDeliveries() {
	deliveries := s.Services.Deliveries
	guard := func() error {
		if deliveries == nil {
			return absent("the delivery queue")
		}
		return nil
	}
	type listIn struct {
		PageParams
		Selection
	}
	add(s, get, "/deliveries", "List deliveries, newest first", sees, 0, func(ctx context.Context, in *listIn) (*body[v1.Page[v1.Delivery]], error) {
		if err := guard(); err != nil {
			return nil, err
		}
		q := in.query(principal(ctx).Sees())
		q.Paging = in.page()
		p, err := deliveries.List(ctx, q)
		return &body[v1.Page[v1.Delivery]]{p}, err
	})
	type one = func(ctx context.Context, owner, id string) (v1.Delivery, error)
	single := func(do func() one) func(context.Context, *IDParam) (*body[v1.Delivery], error) {
		return func(ctx context.Context, in *IDParam) (*body[v1.Delivery], error) {
			if err := guard(); err != nil {
				return nil, err
			}
			d, err := do()(ctx, principal(ctx).Sees(), in.ID)
			return &body[v1.Delivery]{d}, err
		}
	}
	add(s, get, "/deliveries/{id}", "One delivery", sees, 0, single(func() one { return deliveries.Get }))
	add(s, post, "/deliveries/{id}/replay", "Deliver it again, now", subscribe, 0, single(func() one { return deliveries.Replay }))
	add(s, post, "/deliveries/{id}/drop", "Give it up", subscribe, 0, single(func() one { return deliveries.Drop }))
	add(s, get, "/deliveries/{id}/attempts", "Its attempts, oldest first", sees, 0, func(ctx context.Context, in *IDParam) (*body[v1.Page[v1.Attempt]], error) {
		if err := guard(); err != nil {
			return nil, err
		}
		list, err := deliveries.Attempts(ctx, principal(ctx).Sees(), in.ID)
		return &body[v1.Page[v1.Attempt]]{v1.Page[v1.Attempt]{Items: list}}, err
	})

	type bulkIn struct {
		Selection
		All bool `query:"all" doc:"Needed when nothing else selects"`
	}
	type many = func(context.Context, v1.DeliveryQuery) (int, error)
	bulk := func(do func() many) func(context.Context, *bulkIn) (*body[v1.BulkResult], error) {
		return func(ctx context.Context, in *bulkIn) (*body[v1.BulkResult], error) {
			if err := guard(); err != nil {
				return nil, err
			}
			if in.whole() && !in.All {
				return nil, badQuery("all", "say which deliveries (subscription, event, state, since, until), or all=true")
			}
			n, err := do()(ctx, in.query(principal(ctx).Sees()))
			note(ctx, in.Subscription, map[string]any{"deliveries": n, "event": in.Event, "state": in.State, "all": in.All})
			return &body[v1.BulkResult]{v1.BulkResult{Deliveries: n}}, err
		}
	}
	add(s, post, "/deliveries/replay", "Deliver again all that the query selects", subscribe, 0, bulk(func() many { return deliveries.ReplayMany }))
	add(s, post, "/deliveries/drop", "Give up all that the query selects", subscribe, 0, bulk(func() many { return deliveries.DropMany }))
}
