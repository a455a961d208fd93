package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// probeKept is the size, in bytes, from which the table of probes is emptied.
const probeKept = 1 << 20

const (
	probeSQL = `INSERT INTO tocsin.write_probe (filler) VALUES (repeat(' ', 5000))`

	probeSizeSQL = `SELECT pg_relation_size('tocsin.write_probe')`

	probeLockSQL = `LOCK TABLE tocsin.write_probe IN ACCESS EXCLUSIVE MODE NOWAIT`

	probeEmptySQL = `TRUNCATE tocsin.write_probe`
)

// CheckWrite reports an error unless the database takes a write that needs new
// room on its disk: it commits one row of one page. What it writes stays below a
// MiB, or grows for as long as somebody else holds a lock on that table, as
// pg_dump does.
func CheckWrite(ctx context.Context, pool *pgxpool.Pool) error {
	if _, err := pool.Exec(ctx, probeSQL); err != nil {
		return fmt.Errorf("the database takes no writes: %w%s", err, writeHint(err))
	}
	var size int64
	if err := pool.QueryRow(ctx, probeSizeSQL).Scan(&size); err != nil {
		return fmt.Errorf("probe of the database: %w", err)
	}
	if size < probeKept {
		return nil
	}
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, probeLockSQL); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, probeEmptySQL)
		return err
	})
	if pe, ok := errors.AsType[*pgconn.PgError](err); ok && pe.Code == "55P03" { // lock_not_available: the next one empties it
		return nil
	}
	if err != nil {
		return fmt.Errorf("probe of the database: %w", err)
	}
	return nil
}

// writeHint says what a person can do about a database that takes no writes.
func writeHint(err error) string {
	pe, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return ""
	}
	switch pe.Code {
	case "25006": // read_only_sql_transaction
		return " (is this a standby, or default_transaction_read_only set?)"
	case "53100": // disk_full
		return " (make room on the disk of PostgreSQL)"
	case "42501": // insufficient_privilege
		return " (the user has to own schema tocsin)"
	}
	return ""
}
