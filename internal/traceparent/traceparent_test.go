package traceparent_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"tocsin.dev/tocsin/internal/traceparent"
)

const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func TestCarried(t *testing.T) {
	t.Parallel()
	if got := traceparent.From(t.Context()); got != "" {
		t.Errorf("from nothing: %q", got)
	}
	if got := traceparent.From(traceparent.Into(t.Context(), "garbage")); got != "" {
		t.Errorf("from garbage: %q", got)
	}
	if got := traceparent.From(traceparent.Start(traceparent.Into(t.Context(), parent))); got != parent {
		t.Errorf("carried on as %q", got)
	}
	a, b := traceparent.From(traceparent.Start(t.Context())), traceparent.From(traceparent.Start(t.Context()))
	if len(a) != len(parent) || a == b {
		t.Errorf("new flows: %q and %q", a, b)
	}
}

func TestMiddleware(t *testing.T) {
	t.Parallel()
	var seen string
	h := traceparent.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		seen = traceparent.From(r.Context())
	}))
	for header, ok := range map[string]func() bool{
		parent: func() bool { return seen == parent },
		"":     func() bool { return len(seen) == len(parent) && seen != parent },
	} {
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)
		r.Header.Set("Traceparent", header)
		h.ServeHTTP(httptest.NewRecorder(), r)
		if !ok() {
			t.Errorf("header %q: the request saw %q", header, seen)
		}
	}
}
