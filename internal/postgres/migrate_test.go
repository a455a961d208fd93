package postgres_test

import (
	"log/slog"
	"sync"
	"testing"

	"tocsin.dev/tocsin/internal/postgres"
	"tocsin.dev/tocsin/internal/postgres/postgrestest"
)

func TestMigrateManyAtOnce(t *testing.T) {
	t.Parallel()
	pool := postgrestest.Empty(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			own, err := postgres.Open(t.Context(), pool.Config().ConnString())
			if err != nil {
				t.Error(err)
				return
			}
			defer own.Close()
			if err := postgres.Migrate(t.Context(), own, slog.New(slog.DiscardHandler)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	var tables int
	if err := pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_tables WHERE (schemaname, tablename) IN (('tocsin', 'setting'), ('public', 'vuln'), ('public', 'manifest_index'), ('tocsin', 'schema_version'))`).Scan(&tables); err != nil {
		t.Fatal(err)
	}
	if tables != 4 {
		t.Errorf("%d of 4 expected tables", tables)
	}
	if err := postgres.Migrate(t.Context(), pool, slog.New(slog.DiscardHandler)); err != nil {
		t.Errorf("again: %v", err)
	}
}

// A user named tocsin has the schema tocsin in front by PostgreSQL's default.
func TestMigrateAsUserNamedLikeTheSchema(t *testing.T) {
	t.Parallel()
	admin := postgrestest.Empty(t)
	name := admin.Config().ConnConfig.Database
	for _, q := range []string{
		`ALTER DATABASE ` + name + ` SET search_path = tocsin, public`,
		`CREATE SCHEMA tocsin`,
	} {
		if _, err := admin.Exec(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	pool, err := postgres.Open(t.Context(), admin.Config().ConnString())
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if err := postgres.Migrate(t.Context(), pool, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	var schema string
	if err := pool.QueryRow(t.Context(), `SELECT schemaname FROM pg_tables WHERE tablename = 'vuln'`).Scan(&schema); err != nil || schema != "public" {
		t.Errorf("claircore's tables are in %q (%v)", schema, err)
	}
}

func TestMigrateRunsWhatWasSkipped(t *testing.T) {
	t.Parallel()
	pool := postgrestest.New(t)
	// As if 01001 had been added after a higher number had been applied.
	for _, q := range []string{
		`DROP TABLE tocsin.job`,
		`DELETE FROM tocsin.schema_version WHERE version_id = 1001`,
		`INSERT INTO tocsin.schema_version (version_id, is_applied) VALUES (99999, true)`,
	} {
		if _, err := pool.Exec(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	if err := postgres.Migrate(t.Context(), pool, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	var ok bool
	if err := pool.QueryRow(t.Context(), `SELECT to_regclass('tocsin.job') IS NOT NULL`).Scan(&ok); err != nil || !ok {
		t.Errorf("the skipped migration did not run (%v)", err)
	}
}
