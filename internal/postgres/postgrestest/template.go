package postgrestest

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/postgres"
)

const (
	versionSQL = `SELECT current_setting('server_version_num')::int`
	lockSQL    = `SELECT pg_advisory_lock(hashtextextended('tocsin.postgrestest', 0))`
	existsSQL  = `SELECT EXISTS (SELECT FROM pg_database WHERE datname = @name)`
	// These three take identifiers, which cannot be arguments.
	createSQL = `CREATE DATABASE %s TEMPLATE %s`
	dropSQL   = `DROP DATABASE IF EXISTS %s WITH (FORCE)`
	renameSQL = `ALTER DATABASE %s RENAME TO %s`
)

// template is the outcome of making this process's template: its name as SQL,
// and how to copy it.
var template struct {
	sync.Mutex
	sql string
}

// migratedTemplate returns, as SQL, the name of a migrated database on base's server to
// copy, making it if no test process has. A failure is tried again by the next
// test.
func migratedTemplate(ctx context.Context, base string) (string, error) {
	template.Lock()
	defer template.Unlock()
	if template.sql != "" {
		return template.sql, nil
	}
	fp, err := postgres.SchemaFingerprint()
	if err != nil {
		return "", err
	}
	name := "tocsin_template_" + fp

	conn, err := pgx.Connect(ctx, base)
	if err != nil {
		return "", err
	}
	defer conn.Close(context.WithoutCancel(ctx)) // ends the lock
	if _, err := conn.Exec(ctx, lockSQL); err != nil {
		return "", err
	}
	var ok bool
	if err := conn.QueryRow(ctx, existsSQL, pgx.NamedArgs{"name": name}).Scan(&ok); err != nil {
		return "", err
	}
	if !ok {
		if err := makeTemplate(ctx, conn, base, name); err != nil {
			return "", fmt.Errorf("make the template database: %w", err)
		}
	}
	var version int
	if err := conn.QueryRow(ctx, versionSQL).Scan(&version); err != nil {
		return "", err
	}
	template.sql = pgx.Identifier{name}.Sanitize()
	if version >= 150000 {
		// Older versions know only this way, which is quicker where nothing is synced.
		template.sql += " STRATEGY file_copy"
	}
	return template.sql, nil
}

// makeTemplate migrates a database under another name and gives it its own
// when it is whole.
func makeTemplate(ctx context.Context, conn *pgx.Conn, base, name string) error {
	unfinished := pgx.Identifier{name + "_unfinished"}.Sanitize()
	for _, q := range []string{fmt.Sprintf(dropSQL, unfinished), fmt.Sprintf(createSQL, unfinished, "template0")} {
		if _, err := conn.Exec(ctx, q); err != nil {
			return err
		}
	}
	u, err := withDatabase(base, name+"_unfinished")
	if err != nil {
		return err
	}
	pool, err := postgres.Open(ctx, u, postgres.WithMaxConns(2))
	if err != nil {
		return err
	}
	err = postgres.Migrate(ctx, pool, slog.New(slog.DiscardHandler))
	pool.Close()
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, fmt.Sprintf(renameSQL, unfinished, pgx.Identifier{name}.Sanitize()))
	return err
}

// admin runs one statement on base's own database.
func admin(ctx context.Context, base, sql string) error {
	conn, err := pgx.Connect(ctx, base)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql)
	return err
}
