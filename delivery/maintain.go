package delivery

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

const (
	maintenanceLockSQL = `SELECT pg_try_advisory_xact_lock(hashtextextended('tocsin.delivery.partitions', 0))`

	// A partition comes and goes under a lock on its table: rather later than
	// with everybody waiting.
	lockTimeoutSQL = `SET LOCAL lock_timeout = '3s'`

	partitionsSQL = `
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = ('tocsin.' || @parent::text)::regclass AND c.relname <> @parent || '_default'`

	// These take identifiers and bounds, which cannot be arguments.
	createPartitionSQL = `CREATE TABLE tocsin.{table}_{day} (LIKE tocsin.{table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)`
	fillPartitionSQL   = `
WITH moved AS (DELETE FROM tocsin.{table}_default WHERE {column} >= '{from}' AND {column} < '{to}' RETURNING *)
INSERT INTO tocsin.{table}_{day} SELECT * FROM moved`
	attachPartitionSQL = `ALTER TABLE tocsin.{table} ATTACH PARTITION tocsin.{table}_{day} FOR VALUES FROM ('{from}') TO ('{to}')`
	dropPartitionSQL   = `DROP TABLE tocsin.{table}_{day}`
	trimDefaultSQL     = `DELETE FROM tocsin.{table}_default WHERE {column} < '{from}'`
)

// daysAhead is how many days have their partitions in advance.
const daysAhead = 3

// partitioned are the tables with a partition a day, and the column that is
// the day's version 7 UUID.
var partitioned = [...][2]string{{"delivery", "id"}, {"attempt", "delivery_id"}}

// maintenance maintains the partitions every hour.
func (w *Worker) maintenance(ctx context.Context) {
	t := time.NewTicker(time.Hour)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			w.maintainNow(ctx)
		}
	}
}

func (w *Worker) maintainNow(ctx context.Context) {
	if err := w.Maintain(ctx, w.now()); err != nil && ctx.Err() == nil {
		w.log.WarnContext(ctx, "delivery partitions not maintained", slog.Any("error", err))
	}
	if _, err := w.db.Exec(ctx, expireSQL); err != nil && ctx.Err() == nil {
		w.log.WarnContext(ctx, "dead replicas not removed", slog.Any("error", err))
	}
}

// Maintain makes the partitions of now's day and the next ones, and drops
// those whose day ended more than Options.Retention before now. If another
// process is at it, it does nothing.
func (w *Worker) Maintain(ctx context.Context, now time.Time) error {
	for _, p := range partitioned {
		// A transaction for each: what delivers locks both tables.
		err := pgx.BeginFunc(ctx, w.db, func(tx pgx.Tx) error {
			var locked bool
			if err := tx.QueryRow(ctx, maintenanceLockSQL).Scan(&locked); err != nil || !locked {
				return err
			}
			if _, err := tx.Exec(ctx, lockTimeoutSQL); err != nil {
				return err
			}
			return maintainTable(ctx, tx, p[0], p[1], now, w.o.Retention)
		})
		if err != nil {
			return fmt.Errorf("partitions of %s: %w", p[0], err)
		}
	}
	return nil
}

func maintainTable(ctx context.Context, tx pgx.Tx, table, column string, now time.Time, retention time.Duration) error {
	rows, err := tx.Query(ctx, partitionsSQL, pgx.NamedArgs{"parent": table})
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	have := map[string]bool{}
	for _, name := range names {
		have[name] = true
	}
	today := now.UTC().Truncate(24 * time.Hour)
	for i := range daysAhead + 1 {
		day := today.AddDate(0, 0, i)
		if !have[table+"_"+day.Format("20060102")] {
			for _, sql := range []string{createPartitionSQL, fillPartitionSQL, attachPartitionSQL} {
				if _, err := tx.Exec(ctx, partitionSQL(sql, table, column, day)); err != nil {
					return err
				}
			}
		}
	}
	oldest := now.UTC().Add(-retention).Truncate(24 * time.Hour)
	for name := range have {
		day, err := time.Parse(table+"_20060102", name)
		if err != nil || !day.Before(oldest) {
			continue
		}
		if _, err := tx.Exec(ctx, partitionSQL(dropPartitionSQL, table, column, day)); err != nil {
			return err
		}
	}
	_, err = tx.Exec(ctx, partitionSQL(trimDefaultSQL, table, column, oldest))
	return err
}

// partitionSQL fills the partition of a table's day into a statement.
func partitionSQL(sql, table, column string, day time.Time) string {
	return strings.NewReplacer("{table}", table, "{column}", column, "{day}", day.Format("20060102"),
		"{from}", floor(day).String(), "{to}", floor(day.AddDate(0, 0, 1)).String()).Replace(sql)
}

// floor is the smallest version 7 UUID of an instant, as
// tocsin.uuidv7_floor has it.
func floor(at time.Time) uuid.UUID {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[:8], uint64(at.UnixMilli())<<16)
	id[6], id[8] = 0x70, 0x80
	return id
}
