// Package traceparent carries a W3C trace context (Trace Context, section 3.2)
// along a flow: from the request or message that starts it, through the row of a
// job, to the events that come of it.
//
// It records no spans; a context only lets others join their traces to Tocsin's
// events. A malformed one is dropped without a word, as the specification asks.
package traceparent

import (
	"context"
	"crypto/rand"
	"net/http"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// Header is the name of the header with a trace context, in HTTP and NATS.
const Header = "traceparent"

// From is the trace context of ctx, "" if it has none.
func From(ctx context.Context) string {
	c := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, c)
	return c[Header]
}

// Into returns ctx with the trace context that a message or a row carries; one
// that is empty or malformed changes nothing.
func Into(ctx context.Context, traceparent string) context.Context {
	if traceparent == "" {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{Header: traceparent})
}

// Start returns ctx with a trace context: its own, or a new one at the
// beginning of a flow.
func Start(ctx context.Context) context.Context {
	if trace.SpanContextFromContext(ctx).IsValid() {
		return ctx
	}
	var c trace.SpanContextConfig
	// crypto/rand never fails, and this much of it is never all zero in practice.
	_, _ = rand.Read(c.TraceID[:])
	_, _ = rand.Read(c.SpanID[:])
	// Sampled, so that who joins in records its part.
	c.TraceFlags = trace.FlagsSampled
	return trace.ContextWithSpanContext(ctx, trace.NewSpanContext(c))
}

// Middleware gives every request the trace context of its header, or a new one.
func Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(Start(Into(r.Context(), r.Header.Get(Header)))))
	})
}
