package postgres

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"log/slog"
	"runtime/debug"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	claircore "github.com/quay/claircore/datastore/postgres/migrations"
)

//go:embed migrations/*.sql
var migrations embed.FS

// versionTable is where goose keeps which of our migrations have run.
const versionTable = "tocsin.schema_version"

const (
	stayIdleSQL     = `SET LOCAL idle_in_transaction_session_timeout = 0`
	migrateLockSQL  = `SELECT pg_advisory_xact_lock(hashtextextended('tocsin.migrate', 0))`
	createSchemaSQL = `CREATE SCHEMA IF NOT EXISTS tocsin`
)

// Migrate brings the database to the schema this binary needs: claircore's
// indexer and matcher tables in public, then Tocsin's in the schema tocsin.
// The pool's connections must be sessions of their own: claircore's migrations
// lock by session. It may run in several processes at once and again on a migrated database.
// Migrations of ours are numbered in ranges by owner, so one with a lower
// number than the last applied one still runs.
//
// It closes the pool's idle connections when something changed, since they do
// not know the types that came with the change.
func Migrate(ctx context.Context, pool *pgxpool.Pool, log *slog.Logger) error {
	lock, err := pool.Begin(ctx)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	defer func() { _ = lock.Rollback(context.WithoutCancel(ctx)) }() // the lock ends with it, or with its connection
	if _, err := lock.Exec(ctx, stayIdleSQL); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	if _, err := lock.Exec(ctx, migrateLockSQL); err != nil {
		return fmt.Errorf("migrate: wait for the migration lock: %w", err)
	}

	cfg := pool.Config().ConnConfig
	if err := claircore.Indexer(ctx, cfg); err != nil {
		return fmt.Errorf("migrate: claircore's indexer tables: %w", err)
	}
	if err := claircore.Matcher(ctx, cfg); err != nil {
		return fmt.Errorf("migrate: claircore's matcher tables: %w", err)
	}
	if _, err := pool.Exec(ctx, createSchemaSQL); err != nil {
		return fmt.Errorf("migrate: create schema: %w", err)
	}

	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	db := stdlib.OpenDB(*cfg)
	defer db.Close()
	p, err := goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithTableName(versionTable), goose.WithAllowOutofOrder(true), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	done, err := p.Up(ctx)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	for _, r := range done {
		log.DebugContext(ctx, "migrated", "version", r.Source.Version, "took", r.Duration)
	}
	if len(done) > 0 {
		log.InfoContext(ctx, "database migrated", "steps", len(done))
		pool.Reset()
	}
	return nil
}

// SchemaFingerprint identifies the schema [Migrate] makes: it changes whenever
// one of our migrations or claircore's version does.
func SchemaFingerprint() (string, error) {
	h := sha256.New()
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return "", fmt.Errorf("fingerprint migrations: %w", err)
	}
	for _, n := range names {
		b, err := fs.ReadFile(migrations, n)
		if err != nil {
			return "", fmt.Errorf("fingerprint migrations: %w", err)
		}
		fmt.Fprintf(h, "%s %d\n%s", n, len(b), b)
	}
	if bi, ok := debug.ReadBuildInfo(); ok {
		for _, d := range bi.Deps {
			if d.Path == "github.com/quay/claircore" {
				fmt.Fprintf(h, "%s@%s", d.Path, d.Version)
			}
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}
