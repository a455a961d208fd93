package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// received is one event as a webhook brought it.
type received struct {
	ID      string          `json:"id"`
	Type    string          `json:"type"`
	Subject string          `json:"subject"`
	Data    json.RawMessage `json:"data"`
}

// receiver is a subscriber's webhook: it verifies every signature with the
// official library and keeps what it was sent.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	secret string
	events []received
	bodies map[string]string
	wrong  []string
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{bodies: map[string]string{}}
	r.Server = httptest.NewServer(http.HandlerFunc(r.serve))
	t.Cleanup(r.Close)
	t.Cleanup(func() {
		for _, w := range r.wrong {
			t.Error(w)
		}
	})
	return r
}

func (r *receiver) serve(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	wh, err := standardwebhooks.NewWebhook(r.secret)
	if err == nil {
		err = wh.Verify(body, req.Header)
	}
	if err != nil {
		r.wrong = append(r.wrong, "signature: "+err.Error())
	}
	var e received
	if err := json.Unmarshal(body, &e); err != nil {
		r.wrong = append(r.wrong, "body: "+err.Error())
	}
	if e.ID != req.Header.Get("webhook-id") {
		r.wrong = append(r.wrong, "webhook-id "+req.Header.Get("webhook-id")+" is not the event's id "+e.ID)
	}
	if before, ok := r.bodies[e.ID]; ok && before != string(body) {
		r.wrong = append(r.wrong, "event "+e.ID+" read differently when repeated")
	}
	r.bodies[e.ID] = string(body)
	r.events = append(r.events, e)
	w.WriteHeader(http.StatusNoContent)
}

// all is every event received so far, repeats included.
func (r *receiver) all() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]received(nil), r.events...)
}

// count is how many distinct events match.
func (r *receiver) count(match func(received) bool) int {
	seen := map[string]bool{}
	for _, e := range r.all() {
		if match(e) {
			seen[e.ID] = true
		}
	}
	return len(seen)
}
