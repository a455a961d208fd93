package app

import (
	"testing"

	"tocsin.dev/tocsin/internal/postgres/postgrestest"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }
