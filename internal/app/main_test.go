package app

import (
	"log/slog"
	"testing"

	"tocsin.dev/tocsin/indexer"
	"tocsin.dev/tocsin/internal/postgres/postgrestest"
)

func TestMain(m *testing.M) {
	indexer.ServeScans()
	slog.SetDefault(slog.New(slog.DiscardHandler)) // where claircore logs
	postgrestest.Main(m)
}
