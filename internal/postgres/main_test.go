package postgres_test

import (
	"os"
	"testing"

	"tocsin.dev/tocsin/internal/postgres/postgrestest"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(envOwner); dir != "" {
		own(dir)
		return
	}
	postgrestest.Main(m)
}
