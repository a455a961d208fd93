package amqp_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"tocsin.dev/tocsin/delivery"
	"tocsin.dev/tocsin/delivery/amqp"
	"tocsin.dev/tocsin/delivery/broker"
	"tocsin.dev/tocsin/delivery/targettest"
)

// The messages of notifications that are delivered at once, over the one
// connection that they share, stay those of their notification; one target's end
// does not end the others'; and no error shows a password.
func TestClairD5D6_NotificationsAtOnceStayApart(t *testing.T) {
	t.Parallel()
	s := server{targettest.StartRabbitMQ(t)}
	s.Prepare(t, "apart", 0)
	opener := amqp.Opener{Dial: new(net.Dialer).DialContext, Clair: broker.Clair{
		Read: func(_ context.Context, id, after uuid.UUID, _ int) ([]json.RawMessage, uuid.UUID, bool, error) {
			after[15]++
			return []json.RawMessage{json.RawMessage(fmt.Sprintf(`{"of":%q}`, id))}, after, after[15] < 10, nil
		},
	}}
	sub := s.Subscription("apart")
	sub.Config.Mode, sub.Settings.Direct, sub.Settings.Rollup = delivery.Clair, true, 3
	target, err := opener.Open(t.Context(), sub)
	must(t, err)
	defer target.Close(t.Context())
	const notifications = 20
	var wg sync.WaitGroup
	ids := map[string]int{}
	for i := range notifications {
		m := targettest.NewMessage(i, 10)
		ids[m.EventID] = 0
		wg.Go(func() {
			if i%5 == 0 { // another subscription's target comes and goes
				other, err := opener.Open(t.Context(), s.Subscription("apart"))
				if err == nil {
					other.Close(t.Context())
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if out := target.Deliver(ctx, []delivery.Message{m}); out.Class != delivery.ClassDelivered {
				t.Errorf("class %s: %v", out.Class, out.Err)
			}
		})
	}
	wg.Wait()
	for _, r := range s.Drain(t, "apart", notifications*4) {
		var changes []struct {
			Of string `json:"of"`
		}
		must(t, json.Unmarshal(r.Body, &changes))
		for _, c := range changes {
			if c.Of != changes[0].Of {
				t.Errorf("one message holds changes of %s and of %s", c.Of, changes[0].Of)
			}
			ids[c.Of]++
		}
	}
	for id, n := range ids {
		if n != 10 {
			t.Errorf("%d changes of %s, want 10", n, id)
		}
	}

	sub.Credential.Password += "-wrong"
	bad, err := opener.Open(t.Context(), sub)
	must(t, err)
	defer bad.Close(t.Context())
	out := bad.Deliver(t.Context(), []delivery.Message{targettest.NewMessage(1, 10)})
	if out.Class != delivery.ClassAuth || strings.Contains(out.Err.Error()+out.Response, string(sub.Credential.Password)) {
		t.Errorf("class %s: %v", out.Class, out.Err)
	}
}
