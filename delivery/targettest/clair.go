package targettest

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"tocsin.dev/tocsin/delivery"
	"tocsin.dev/tocsin/delivery/broker"
)

// clairChanges is how many changes every notification of [Clair] has.
const clairChanges = 5

// Clair makes the messages of content mode clair about notifications of five
// changes, read two at a time.
func Clair() broker.Clair {
	return broker.Clair{
		Callback: "http://tocsin.example/notifier/api/v1/notification/",
		Read: func(_ context.Context, _, after uuid.UUID, _ int) ([]json.RawMessage, uuid.UUID, bool, error) {
			var out []json.RawMessage
			at := int(after[15])
			for len(out) < 2 && at < clairChanges {
				at++
				out = append(out, json.RawMessage(fmt.Sprintf(`{"n":%d}`, at)))
			}
			after[15] = byte(at)
			return out, after, at < clairChanges, nil
		},
	}
}

// clair sends a notification in each of the ways that Clair knows.
func (r *run) clair(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*delivery.Subscription)
		want   []string // bodies; ID is the notification's
	}{
		"callback":       {func(*delivery.Subscription) {}, []string{`{"notification_id":"ID","callback":"http://tocsin.example/notifier/api/v1/notification/ID"}`}},
		"own-callback":   {func(s *delivery.Subscription) { s.Settings.Callback = "https://clair.example/n" }, []string{`{"notification_id":"ID","callback":"https://clair.example/n/ID"}`}},
		"direct":         {func(s *delivery.Subscription) { s.Settings.Direct = true }, []string{`[{"n":1}]`, `[{"n":2}]`, `[{"n":3}]`, `[{"n":4}]`, `[{"n":5}]`}},
		"direct-rollup3": {func(s *delivery.Subscription) { s.Settings.Direct, s.Settings.Rollup = true, 3 }, []string{`[{"n":1},{"n":2},{"n":3}]`, `[{"n":4},{"n":5}]`}},
	} {
		t.Run(name, func(t *testing.T) {
			r.server.Prepare(t, "clair-"+name, 0)
			sub := r.server.Subscription("clair-" + name)
			sub.Config.Mode = delivery.Clair
			c.change(&sub)
			target, err := r.Opener((&net.Dialer{}).DialContext).Open(t.Context(), sub)
			if err != nil {
				t.Fatal(err)
			}
			defer target.Close(t.Context())
			m := NewMessage(1, 10)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if out := target.Deliver(ctx, []delivery.Message{m}); out.Class != delivery.ClassDelivered {
				t.Fatalf("class %s: %v", out.Class, out.Err)
			}
			got := r.server.Drain(t, "clair-"+name, len(c.want))
			for i, g := range got {
				if !strings.HasPrefix(g.ContentType, broker.ClairContent) {
					t.Errorf("content type %q", g.ContentType)
				}
				if want := strings.ReplaceAll(c.want[min(i, len(c.want)-1)], "ID", m.EventID); string(g.Body) != want {
					t.Errorf("message %d is %s, want %s", i+1, g.Body, want)
				}
			}
			if len(got) != len(c.want) {
				t.Errorf("%d messages, want %d", len(got), len(c.want))
			}
		})
	}
}
