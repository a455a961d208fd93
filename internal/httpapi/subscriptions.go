package httpapi

import (
	"context"
	"net/http"
	"net/url"

	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/schemas"
)

// Subscriptions is who wants which events: package notifier. An owner that is
// not empty sees its own alone: others are ErrNotFound.
type Subscriptions interface {
	List(ctx context.Context, owner string, p v1.Paging) (v1.Page[schemas.Subscription], error)
	Get(ctx context.Context, owner, id string) (schemas.Subscription, error)
	// Create is idempotent by s.Key, if it is not empty: the same key answers
	// the same subscription, without its secret, and false.
	Create(ctx context.Context, owner string, s schemas.Subscription) (schemas.Subscription, bool, error)
	Replace(ctx context.Context, owner, id string, s schemas.Subscription) (schemas.Subscription, error)
	Delete(ctx context.Context, owner, id string) error
	Pause(ctx context.Context, owner, id string) (schemas.Subscription, error)
	Resume(ctx context.Context, owner, id string) (schemas.Subscription, error)
	// Test sends a ping to it and returns the event's id.
	Test(ctx context.Context, owner, id string) (string, error)
	// Current sends it what is there now, and answers how many events that is.
	Current(ctx context.Context, owner, id string) (int, error)
	Rotate(ctx context.Context, owner, id string, r v1.RotateRequest) (schemas.Subscription, error)
	// DryRun tries a subscription that need not exist on the newest events that
	// the owner may see.
	DryRun(ctx context.Context, owner string, s schemas.Subscription, events int) (v1.DryRun, error)
}

// aboutSubscription is what the audit log says of a subscription: of its sink the
// host alone, since a path may be a secret.
func aboutSubscription(s schemas.Subscription) map[string]any {
	out := map[string]any{"name": s.Name, "protocol": s.Protocol, "owner": s.Owner}
	if u, err := url.Parse(s.Sink); err == nil {
		out["host"] = u.Host
	}
	return out
}

type subscriptionBody = body[schemas.Subscription]

func (s *server) registerSubscriptions() {
	subs := s.Services.Subscriptions
	// guard answers for the service being absent.
	guard := func() error {
		if subs == nil {
			return absent("the notifier")
		}
		return nil
	}
	add(s, get, "/subscriptions", "List subscriptions", sees, 0, func(ctx context.Context, in *PageParams) (*body[v1.Page[schemas.Subscription]], error) {
		if err := guard(); err != nil {
			return nil, err
		}
		p, err := subs.List(ctx, principal(ctx).Sees(), in.page())
		return &body[v1.Page[schemas.Subscription]]{p}, err
	})

	type createIn struct {
		Key  string `header:"Idempotency-Key" doc:"A second creation with the same key answers the first one's subscription" maxLength:"200"`
		Body schemas.Subscription
	}
	type createOut struct {
		Status   int
		Location string `header:"Location"`
		Body     schemas.Subscription
	}
	add(s, post, "/subscriptions", "Subscribe", subscribe, http.StatusCreated, func(ctx context.Context, in *createIn) (*createOut, error) {
		if err := guard(); err != nil {
			return nil, err
		}
		if in.Key != "" {
			in.Body.Key = in.Key
		}
		sub, created, err := subs.Create(ctx, principal(ctx).Owner, in.Body)
		if err != nil {
			return nil, err
		}
		note(ctx, sub.ID, aboutSubscription(sub))
		out := &createOut{Status: http.StatusCreated, Location: "/api/v1/subscriptions/" + sub.ID, Body: sub}
		if !created {
			unchanged(ctx)
			out.Status = http.StatusOK
		}
		return out, nil
	})

	type dryIn struct {
		Events int `query:"events" doc:"How many of the newest events to try" default:"500" minimum:"1" maximum:"5000"`
		Body   schemas.Subscription
	}
	add(s, post, "/subscriptions/dry-run", "Say what a subscription would have matched", sees, 0, func(ctx context.Context, in *dryIn) (*body[v1.DryRun], error) {
		if err := guard(); err != nil {
			return nil, err
		}
		d, err := subs.DryRun(ctx, principal(ctx).Sees(), in.Body, in.Events)
		return &body[v1.DryRun]{d}, err
	})

	// one registers an operation on one subscription. The method is taken when
	// it is called: the service may be absent.
	type method = func(ctx context.Context, owner, id string) (schemas.Subscription, error)
	one := func(verb, path, summary string, do func() method) {
		scopes := subscribe
		if verb == get {
			scopes = sees
		}
		add(s, verb, "/subscriptions/{id}"+path, summary, scopes, 0, func(ctx context.Context, in *IDParam) (*subscriptionBody, error) {
			if err := guard(); err != nil {
				return nil, err
			}
			sub, err := do()(ctx, principal(ctx).Sees(), in.ID)
			return &subscriptionBody{sub}, err
		})
	}
	one(get, "", "One subscription", func() method { return subs.Get })
	one(post, "/pause", "Hold its deliveries", func() method { return subs.Pause })
	one(post, "/resume", "Deliver again; also ends a disabled state", func() method { return subs.Resume })

	type replaceIn struct {
		IDParam
		Body schemas.Subscription
	}
	add(s, put, "/subscriptions/{id}", "Replace a subscription", subscribe, 0, func(ctx context.Context, in *replaceIn) (*subscriptionBody, error) {
		if err := guard(); err != nil {
			return nil, err
		}
		sub, err := subs.Replace(ctx, principal(ctx).Sees(), in.ID, in.Body)
		note(ctx, "", aboutSubscription(sub))
		return &subscriptionBody{sub}, err
	})
	add(s, remove, "/subscriptions/{id}", "Unsubscribe", subscribe, http.StatusNoContent, func(ctx context.Context, in *IDParam) (*struct{}, error) {
		if err := guard(); err != nil {
			return nil, err
		}
		return nil, subs.Delete(ctx, principal(ctx).Sees(), in.ID)
	})
	type testOut struct {
		EventID string `json:"event_id" doc:"Id of the ping event"`
	}
	add(s, post, "/subscriptions/{id}/test", "Send it a test event", subscribe, http.StatusAccepted, func(ctx context.Context, in *IDParam) (*body[testOut], error) {
		if err := guard(); err != nil {
			return nil, err
		}
		id, err := subs.Test(ctx, principal(ctx).Sees(), in.ID)
		return &body[testOut]{testOut{id}}, err
	})
	type currentOut struct {
		Events int `json:"events" doc:"Images that its filters let through, one event each"`
	}
	add(s, post, "/subscriptions/{id}/current", "Send it what is there now: one indexed event, marked as a snapshot, for every image that its filters let through",
		subscribe, http.StatusAccepted, func(ctx context.Context, in *IDParam) (*body[currentOut], error) {
			if err := guard(); err != nil {
				return nil, err
			}
			n, err := subs.Current(ctx, principal(ctx).Sees(), in.ID)
			return &body[currentOut]{currentOut{n}}, err
		})
	type rotateIn struct {
		IDParam
		Body v1.RotateRequest
	}
	add(s, post, "/subscriptions/{id}/rotate", "Give it a new signing secret", subscribe, 0, func(ctx context.Context, in *rotateIn) (*subscriptionBody, error) {
		if err := guard(); err != nil {
			return nil, err
		}
		sub, err := subs.Rotate(ctx, principal(ctx).Sees(), in.ID, in.Body)
		return &subscriptionBody{sub}, err
	})
}
