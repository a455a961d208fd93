package app

import (
	"context"
	"log/slog"
)

// claircoreLog is the handler that claircore logs to: it says at the level of
// information what is one of Tocsin's details, several lines for every run of
// an updater and every layer, so that only its warnings pass unless details
// are wanted.
type claircoreLog struct{ slog.Handler }

func (h claircoreLog) Enabled(ctx context.Context, level slog.Level) bool {
	return h.Handler.Enabled(ctx, level) && (level >= slog.LevelWarn || h.Handler.Enabled(ctx, slog.LevelDebug))
}

func (h claircoreLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return claircoreLog{h.Handler.WithAttrs(attrs)}
}

func (h claircoreLog) WithGroup(name string) slog.Handler {
	return claircoreLog{h.Handler.WithGroup(name)}
}
