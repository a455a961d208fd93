package listen_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"tocsin.dev/tocsin/internal/listen"
)

// The receiver's own test is answered and otherwise as if it had not come.
func TestOwnMessagesAreNotReceived(t *testing.T) {
	t.Parallel()
	var got []string
	r := listen.New(listen.Options{
		Own:     func(m listen.Received) bool { return m.Events[0].ID() == "own" },
		Receive: func(_ context.Context, m listen.Received) error { got = append(got, m.Events[0].ID()); return nil },
	})
	for _, id := range []string{"own", "other"} {
		req := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(`{"specversion":"1.0","id":"`+id+`","source":"urn:x","type":"x"}`))
		req.Header.Set("Content-Type", "application/cloudevents+json")
		w := httptest.NewRecorder()
		r.ServeHTTP(w, req)
		if w.Code != http.StatusNoContent {
			t.Errorf("%s: %d %s", id, w.Code, w.Body)
		}
	}
	if len(got) != 1 || got[0] != "other" {
		t.Errorf("received %q", got)
	}
}
