package notifier

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"tocsin.dev/tocsin/internal/bus"
	"tocsin.dev/tocsin/internal/bus/bustest"
	"tocsin.dev/tocsin/internal/secrets"
	"tocsin.dev/tocsin/schemas"
)

var _ waker = (*bus.Bus)(nil)

// flaky publishes on a real bus, but fails as told.
type flaky struct {
	*bus.Bus
	mu   sync.Mutex
	fail func(n int) (before, after error)
	n    int
}

func (f *flaky) Publish(ctx context.Context, subject, id string, data []byte) error {
	f.mu.Lock()
	n := f.n
	f.n++
	before, after := f.fail(n)
	f.mu.Unlock()
	if before != nil {
		return before
	}
	return errors.Join(f.Bus.Publish(ctx, subject, id, data), after)
}

// published is all that is in the stream of events, by id.
func published(t *testing.T, server *bustest.Server) map[string]event.Event {
	t.Helper()
	js, err := jetstream.New(server.Dial())
	if err != nil {
		t.Fatal(err)
	}
	// The connection may still be coming back.
	var state jetstream.StreamState
	until(t, "the stream", func() bool {
		s, err := js.Stream(t.Context(), bus.StreamEvents)
		if err != nil {
			return false
		}
		state = s.CachedInfo().State
		return true
	})
	out := map[string]event.Event{}
	s, err := js.Stream(t.Context(), bus.StreamEvents)
	if err != nil {
		t.Fatal(err)
	}
	for seq := state.FirstSeq; seq <= state.LastSeq; seq++ {
		m, err := s.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatalf("message %d of %d: %v", seq, state.LastSeq, err)
		}
		var e event.Event
		if err := json.Unmarshal(m.Data, &e); err != nil {
			t.Fatal(err)
		}
		if _, dup := out[e.ID()]; dup {
			t.Errorf("event %s twice", e.ID())
		}
		if want := "tocsin.events." + e.Type()[len(schemas.TypePrefix):]; m.Subject != want || m.Header.Get("Nats-Msg-Id") != e.ID() {
			t.Errorf("%s on subject %s with message id %s", e.ID(), m.Subject, m.Header.Get("Nats-Msg-Id"))
		}
		out[e.ID()] = e
	}
	return out
}

// TestOutboxReachesTheStreamOnce relays on two replicas while publishing fails
// now and then, before and after the message was stored, and one replica is
// stopped in the middle.
func TestOutboxReachesTheStreamOnce(t *testing.T) {
	t.Parallel()
	s := bustest.NewServer(t)
	b := s.Connect()
	var gate sync.Once
	reached := make(chan struct{})
	publisher := &flaky{Bus: b, fail: func(n int) (before, after error) {
		if n == 150 {
			gate.Do(func() { close(reached) })
		}
		switch n % 10 {
		case 3:
			return errors.New("no responders"), nil
		case 6:
			return nil, errors.New("the acknowledgement was lost")
		}
		return nil, nil
	}}
	with := func(o *options) { o.Publisher, o.Waker = publisher, b }
	w := newWorld(t, with)
	w.manifests(t, 400)
	w.mustChange(t, 1)
	w.tx(t, func(tx pgx.Tx) error { return w.UpdateCompleted(t.Context(), tx, schemas.UpdateCompleted{Update: osv}) })

	ended := make(chan error, 2)
	ctx, stop := context.WithCancel(t.Context())
	go func() { ended <- w.Run(ctx) }()
	second, stopSecond := context.WithCancel(t.Context())
	go func() { ended <- replica(t, w.Pool, with).Run(second) }()
	<-reached
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	until(t, "an empty outbox", func() bool { return w.count(t, `SELECT count(*) FROM tocsin.outbox`) == 0 })
	stopSecond()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	got := published(t, s)
	if len(got) != 402 {
		t.Errorf("%d events in the stream, want 400, their digest and the update", len(got))
	}
	for _, e := range got {
		if e.Type() != schemas.TypeVulnerabilitiesChanged {
			validateEvent(t, e)
		}
	}
}

// TestRunExchangesKeys starts with a new first key.
func TestRunExchangesKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.webhook(t, nil)
	fresh := replica(t, w.Pool, func(o *options) {
		var err error
		if o.Keyring, err = secrets.New(bytes.Repeat([]byte{8}, secrets.KeySize), bytes.Repeat([]byte{7}, secrets.KeySize)); err != nil {
			t.Fatal(err)
		}
	})
	ended := make(chan error, 1)
	ctx, stop := context.WithCancel(t.Context())
	go func() { ended <- fresh.Run(ctx) }()
	until(t, "the new key", func() bool {
		return w.count(t, `SELECT count(*) FROM tocsin.secret WHERE key_id = $1`, fresh.subs.Keyring.Primary()) == 1
	})
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	targets, err := fresh.subs.Targets(t.Context(), []uuid.UUID{uuid.MustParse(s.ID)})
	if err != nil || targets[uuid.MustParse(s.ID)].SigningSecrets[0] != s.Secret {
		t.Errorf("%v", err)
	}
}

func TestRelayOutlivesTheServer(t *testing.T) {
	t.Parallel()
	s := bustest.NewServer(t)
	b := s.Connect()
	registry := prometheus.NewRegistry()
	w := newWorld(t, func(o *options) { o.Publisher, o.Waker, o.Registerer = b, b, registry })
	ended := make(chan error, 1)
	ctx, stop := context.WithCancel(t.Context())
	go func() { ended <- w.Run(ctx) }()
	emit := func() {
		w.tx(t, func(tx pgx.Tx) error { return w.UpdateCompleted(t.Context(), tx, schemas.UpdateCompleted{Update: osv}) })
	}
	empty := func() bool { return w.count(t, `SELECT count(*) FROM tocsin.outbox`) == 0 }
	emit()
	until(t, "the first event", empty)
	s.Stop()
	emit()
	until(t, "a failure", func() bool {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "tocsin_notifier_relay_failures_total" {
				return f.GetMetric()[0].GetCounter().GetValue() > 0
			}
		}
		return false
	})
	s.Start()
	until(t, "the second event", empty)
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got := published(t, s); len(got) != 2 {
		t.Errorf("%d events in the stream", len(got))
	}
}
