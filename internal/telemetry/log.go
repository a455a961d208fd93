package telemetry

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"

	claircore "github.com/quay/claircore/toolkit/log"
	"go.opentelemetry.io/otel/trace"

	"tocsin.dev/tocsin/internal/text"
)

// NewLogger returns a logger that writes to w. Level is debug, info, warn or
// error; format is text, json, or auto: text if w is a terminal, else JSON. It
// adds what a context says to every record: claircore's attributes and the id
// of the trace.
func NewLogger(w io.Writer, level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log level %q is none of debug, info, warn, error", level)
	}
	o := &slog.HandlerOptions{Level: l, ReplaceAttr: redact}
	var h slog.Handler
	switch {
	case format == "text" || format == "auto" && isTerminal(w):
		h = slog.NewTextHandler(w, o)
	case format == "json" || format == "auto":
		h = slog.NewJSONHandler(w, o)
	default:
		return nil, fmt.Errorf("log format %q is none of auto, text, json", format)
	}
	return slog.New(contextHandler{h}), nil
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	fi, err := f.Stat()
	return err == nil && fi.Mode()&os.ModeCharDevice != 0
}

// contextHandler adds to a record what its context says.
type contextHandler struct{ next slog.Handler }

// Enabled implements slog.Handler; a context may ask for more than the level.
func (h contextHandler) Enabled(ctx context.Context, l slog.Level) bool {
	if min, ok := ctx.Value(claircore.LevelKey).(slog.Leveler); ok && l >= min.Level() {
		return true
	}
	return h.next.Enabled(ctx, l)
}

// Handle implements slog.Handler.
func (h contextHandler) Handle(ctx context.Context, r slog.Record) error {
	v, isGroup := ctx.Value(claircore.AttrsKey).(slog.Value)
	span := trace.SpanContextFromContext(ctx)
	if !isGroup && !span.HasTraceID() {
		return h.next.Handle(ctx, r)
	}
	r = r.Clone()
	if isGroup {
		r.AddAttrs(v.Group()...)
	}
	if span.HasTraceID() {
		r.AddAttrs(slog.String("trace_id", span.TraceID().String()))
	}
	return h.next.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h contextHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return contextHandler{h.next.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h contextHandler) WithGroup(name string) slog.Handler {
	return contextHandler{h.next.WithGroup(name)}
}

// redact replaces what looks like a secret; the types of this program that hold
// one do not show it in the first place. It sees the message too.
func redact(_ []string, a slog.Attr) slog.Attr {
	if text.Sensitive(a.Key) && a.Value.Kind() != slog.KindGroup {
		return slog.String(a.Key, text.Redacted)
	}
	switch a.Value.Kind() {
	case slog.KindString:
		return slog.String(a.Key, text.Redact(a.Value.String()))
	case slog.KindAny:
		switch v := a.Value.Any().(type) {
		case *slog.Source:
			return a
		case error:
			return slog.String(a.Key, text.Redact(v.Error()))
		case fmt.Stringer:
			return slog.String(a.Key, text.Redact(v.String()))
		case []byte:
			return slog.String(a.Key, text.Redact(string(v)))
		case []string:
			out := make([]string, len(v))
			for i, s := range v {
				out[i] = text.Redact(s)
			}
			return slog.Any(a.Key, out)
		default:
			// A struct or a map, whose members no handler offers one by one.
			return slog.String(a.Key, text.Redact(fmt.Sprintf("%+v", v)))
		}
	}
	return a
}
