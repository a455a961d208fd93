package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"

	"github.com/cloudevents/sdk-go/v2/event"

	"tocsin.dev/tocsin/internal/listen"
	"tocsin.dev/tocsin/internal/standardwebhooks"
	"tocsin.dev/tocsin/schemas"
)

// hook is a webhook that checks signatures and keeps what it got.
type hook struct {
	cancel context.CancelFunc
	ended  chan error

	mu  sync.Mutex
	got []listen.Received
	new chan struct{} // closed and replaced when something came
}

// subscribe makes a subscription and receives for it.
func (d *demo) subscribe(ctx context.Context) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var sub schemas.Subscription
	err = d.api.call(ctx, http.MethodPost, "/subscriptions", schemas.Subscription{
		Name: "demo", Sink: "http://" + ln.Addr().String() + "/", Protocol: schemas.ProtocolHTTP,
		Types: []string{schemas.TypeVulnerabilitiesChanged, schemas.TypeManifestIndexed},
	}, &sub)
	if err != nil {
		ln.Close()
		return err
	}
	key, err := standardwebhooks.Parse(sub.Secret)
	if err != nil {
		ln.Close()
		return err
	}
	h := &hook{ended: make(chan error, 1), new: make(chan struct{})}
	var hctx context.Context
	hctx, h.cancel = context.WithCancel(context.WithoutCancel(ctx))
	r := listen.New(listen.Options{Keys: []standardwebhooks.Key{key}, Receive: h.receive})
	go func() { h.ended <- r.Serve(hctx, ln) }()
	d.hook = h
	d.detail("%s at %s, signed with a secret only the two know", sub.ID, sub.Sink)
	return nil
}

func (h *hook) receive(_ context.Context, m listen.Received) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.got = append(h.got, m)
	close(h.new)
	h.new = make(chan struct{})
	return nil
}

func (h *hook) stop() {
	h.cancel()
	<-h.ended
}

// await returns the first message whose event matches.
func (h *hook) await(ctx context.Context, match func(event.Event) bool) (listen.Received, error) {
	for {
		h.mu.Lock()
		got, next := h.got, h.new
		h.mu.Unlock()
		for _, m := range got {
			for _, e := range m.Events {
				if match(e) {
					return m, nil
				}
			}
		}
		select {
		case <-next:
		case err := <-h.ended:
			h.ended <- err // for stop
			return listen.Received{}, fmt.Errorf("the webhook ended: %w", err)
		case <-ctx.Done():
			return listen.Received{}, errors.Join(errors.New("no such event came"), context.Cause(ctx))
		}
	}
}

// decode reads an event's data.
func decode[T any](e event.Event) (T, error) {
	var data T
	if err := json.Unmarshal(e.Data(), &data); err != nil {
		return data, fmt.Errorf("event %s: %w", e.ID(), err)
	}
	return data, nil
}
