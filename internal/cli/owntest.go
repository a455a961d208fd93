package cli

import (
	"context"
	"net/http"
	"net/url"
	"sync"
	"time"

	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/internal/listen"
	"tocsin.dev/tocsin/internal/terminal"
)

// ownTestWait is how long a test event may take to arrive before the delivery
// is asked what became of it.
const ownTestWait = 5 * time.Second

// ownTest is the test event that `tocsin listen --subscribe` sends itself, to
// say why if events don't arrive. Nil is none. Its methods may be called at
// the same time.
type ownTest struct {
	event   string
	arrived chan struct{}
	once    sync.Once
}

// newOwnTest has a test event sent to the subscription. It is known before
// anything is received: the receiver is not serving yet.
func newOwnTest(e *env, subscription string) *ownTest {
	cl, err := e.client()
	var out struct {
		EventID string `json:"event_id"`
	}
	if err == nil {
		err = cl.call(http.MethodPost, "/subscriptions/"+seg(subscription)+"/test", nil, nil, &out)
	}
	if err != nil {
		e.notef("%s no test event could be sent: %v", e.notice.Warn("warning:"), err)
		return nil
	}
	return &ownTest{event: out.EventID, arrived: make(chan struct{})}
}

// is reports whether a message is the test event.
func (t *ownTest) is(m listen.Received) bool {
	if t == nil || len(m.Events) != 1 || m.Events[0].ID() != t.event {
		return false
	}
	t.once.Do(func() { close(t.arrived) })
	return true
}

// watch waits for the test event and says what keeps it. It ends with ctx.
func (t *ownTest) watch(ctx context.Context, e *env) {
	if t == nil {
		return
	}
	timer := time.NewTimer(ownTestWait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return
	case <-t.arrived:
		e.notef("A test event arrived: the server reaches this receiver.")
		return
	case <-timer.C:
	}
	warn := e.notice.Warn("warning:")
	cl, err := e.client()
	var page v1.Page[v1.Delivery]
	if err == nil {
		err = cl.send(ctx, http.MethodGet, "/deliveries", url.Values{"event": {t.event}}, "", nil, &page)
	}
	switch {
	case ctx.Err() != nil:
	case err != nil:
		e.notef("%s a test event did not arrive within %s, and the server does not say why: %v", warn, ownTestWait, err)
	case len(page.Items) == 0 || page.Items[0].Reason == "":
		e.notef("%s a test event did not arrive within %s; it has not been tried yet. What became of it: tocsin deliveries --event %s", warn, ownTestWait, t.event)
	default:
		e.notef("%s a test event did not arrive: %s", warn, terminal.Clean(page.Items[0].Reason))
		e.notef("The server has to reach the sink: --url names it otherwise, and delivery.allow_networks permits private networks.")
	}
}
