package oracle

import (
	"log/slog"
	"testing"

	"tocsin.dev/tocsin/internal/postgres/postgrestest"
)

func TestMain(m *testing.M) {
	// claircore logs every version it can't parse, and scenarios are full of them.
	slog.SetDefault(slog.New(slog.DiscardHandler))
	postgrestest.Main(m)
}
