// Package partition keeps tables that are partitioned by the day of a version 7
// UUID: it makes the partitions of today and the days ahead, and drops those that
// retention has passed.
//
// It guarantees that writers and readers of a day see every row while its
// partition is made, that of several processes one works at a time, and that one
// run drops at most [MostDropped] partitions, so that a wrong clock does not erase
// everything before somebody can see it. What has no partition of its own day is
// in the default partition, and goes into the day's when that is made.
package partition

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/uuid7"
)

const (
	day    = 24 * time.Hour
	format = "20060102"
)

// MostDropped is how many partitions of a table one run drops. Runs come every
// hour, so that what piled up in a pause is gone within a day.
const MostDropped = 4

// Table is a table of the schema tocsin, partitioned by day.
type Table struct {
	Name   string
	Column string // the version 7 UUID whose time is the row's day
	Ahead  int    // days that have their partitions in advance
}

const (
	lockSQL = `SELECT pg_try_advisory_xact_lock(hashtextextended('tocsin.partition.' || @table::text, 0))`

	// A partition comes and goes under a lock on its table: rather later than with
	// everybody waiting.
	lockTimeoutSQL = `SET LOCAL lock_timeout = '5s'`

	listSQL = `
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = ('tocsin.' || @table::text)::regclass AND c.relname <> @table || '_default'`

	// These take identifiers and bounds, which cannot be arguments.
	straySQL  = `SELECT EXISTS (SELECT FROM tocsin.{table}_default WHERE {column} >= '{from}' AND {column} < '{to}')`
	holdSQL   = `LOCK TABLE ONLY tocsin.{table} IN ACCESS EXCLUSIVE MODE`
	createSQL = `CREATE TABLE tocsin.{table}_{day} (LIKE tocsin.{table} INCLUDING ALL)`
	moveSQL   = `
WITH moved AS (DELETE FROM tocsin.{table}_default WHERE {column} >= '{from}' AND {column} < '{to}' RETURNING *)
INSERT INTO tocsin.{table}_{day} SELECT * FROM moved`
	attachSQL = `ALTER TABLE tocsin.{table} ATTACH PARTITION tocsin.{table}_{day} FOR VALUES FROM ('{from}') TO ('{to}')`
	dropSQL   = `DROP TABLE tocsin.{table}_{day}`
	auditSQL  = `
INSERT INTO tocsin.audit (actor, action, object, detail)
VALUES ('tocsin', @action, @table, jsonb_build_object('partitions', @dropped::text[], 'rows', @rows::bigint, 'before', @before::timestamptz))`
	trimSQL = `DELETE FROM tocsin.{table}_default WHERE {column} < '{from}'`
)

// Result is what a run did.
type Result struct {
	// Ran is false if another process was at it.
	Ran bool
	// Dropped are the names of the partitions that are gone, oldest first.
	Dropped []string
	// Trimmed are the rows that went from the default partition.
	Trimmed int64
	// Left are how many partitions more are past retention: the next runs drop them.
	Left int
}

// Maintain makes the partitions of now's day and the days ahead, and drops those
// that end at before or earlier, in tx, which should do nothing else that takes
// long. On a lock that others hold for long it gives up with an error.
func (t Table) Maintain(ctx context.Context, tx pgx.Tx, now, before time.Time) (Result, error) {
	var r Result
	if err := tx.QueryRow(ctx, lockSQL, pgx.NamedArgs{"table": t.Name}).Scan(&r.Ran); err != nil || !r.Ran {
		return r, t.wrap("lock", err)
	}
	if _, err := tx.Exec(ctx, lockTimeoutSQL); err != nil {
		return r, t.wrap("lock", err)
	}
	rows, err := tx.Query(ctx, listSQL, pgx.NamedArgs{"table": t.Name})
	if err != nil {
		return r, t.wrap("list", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return r, t.wrap("list", err)
	}
	today := now.UTC().Truncate(day)
	for i := range t.Ahead + 1 {
		d := today.AddDate(0, 0, i)
		if !slices.Contains(names, t.Name+"_"+d.Format(format)) {
			if err := t.create(ctx, tx, d, i == 0); err != nil {
				return r, err
			}
		}
	}
	return r, t.drop(ctx, tx, names, before.UTC(), &r)
}

// create makes the partition of a day, and moves into it what had to go to the
// default partition for want of it. That of a day to come is attached while
// others write. That of a day whose rows may be in the default partition, or on
// their way there, makes all others wait: a writer would find the default
// partition closed to it, and a reader that had looked up where to read would not
// see what was moved.
func (t Table) create(ctx context.Context, tx pgx.Tx, d time.Time, today bool) error {
	stray := true
	if !today {
		if err := tx.QueryRow(ctx, t.sql(straySQL, d)).Scan(&stray); err != nil {
			return t.wrap("look for rows without a partition", err)
		}
	}
	statements := []string{createSQL, attachSQL}
	if stray {
		statements = []string{holdSQL, createSQL, moveSQL, attachSQL}
	}
	for _, s := range statements {
		if _, err := tx.Exec(ctx, t.sql(s, d)); err != nil {
			return t.wrap("make the partition of "+d.Format(time.DateOnly), err)
		}
	}
	return nil
}

func (t Table) drop(ctx context.Context, tx pgx.Tx, names []string, before time.Time, r *Result) error {
	var old []time.Time
	for _, n := range names {
		d, err := time.Parse(t.Name+"_"+format, n)
		if err == nil && !d.AddDate(0, 0, 1).After(before) {
			old = append(old, d)
		}
	}
	slices.SortFunc(old, time.Time.Compare)
	if len(old) > MostDropped {
		r.Left = len(old) - MostDropped
		old = old[:MostDropped]
	}
	for _, d := range old {
		if _, err := tx.Exec(ctx, t.sql(dropSQL, d)); err != nil {
			return t.wrap("drop the partition of "+d.Format(time.DateOnly), err)
		}
		r.Dropped = append(r.Dropped, t.Name+"_"+d.Format(format))
	}
	if r.Left == 0 { // the default partition goes last, as far as this limit is there for
		tag, err := tx.Exec(ctx, t.sql(trimSQL, before))
		if err != nil {
			return t.wrap("delete old rows", err)
		}
		r.Trimmed = tag.RowsAffected()
	}
	if len(r.Dropped) == 0 && r.Trimmed == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, auditSQL, pgx.NamedArgs{"action": "partitions.drop", "table": t.Name, "dropped": r.Dropped, "rows": r.Trimmed, "before": before})
	return t.wrap("note it in the audit log", err)
}

// sql fills a day into a statement; a moment that begins no day is good for from
// alone.
func (t Table) sql(statement string, at time.Time) string {
	return strings.NewReplacer("{table}", t.Name, "{column}", t.Column, "{day}", at.Format(format),
		"{from}", uuid7.Floor(at).String(), "{to}", uuid7.Floor(at.AddDate(0, 0, 1)).String()).Replace(statement)
}

func (t Table) wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("partitions of %s: %s: %w", t.Name, doing, err)
}

// farApart is how far the clocks of this process and the database may be apart
// for anything to be dropped by them.
const farApart = 5 * time.Minute

// ErrClocks means that this process and its database disagree about the time, so
// that nothing is dropped by either's.
var ErrClocks = errors.New("the clocks of this process and of the database are apart")

const nowSQL = `SELECT clock_timestamp()`

// Querier is a pool, a connection or a transaction.
type Querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Now is the database's time, which alone decides what is old. With [ErrClocks] it
// is good for making partitions, but nothing may be dropped by it.
func Now(ctx context.Context, db Querier, own func() time.Time) (time.Time, error) {
	skew, now, err := Skew(ctx, db, own)
	if err == nil && skew.Abs() > farApart {
		err = fmt.Errorf("%w: by %v; set them by NTP", ErrClocks, skew.Round(time.Second))
	}
	return now, err
}

// Skew is how far the clock of this process is ahead of the database's, exact to
// the time it takes to ask, and the database's time.
func Skew(ctx context.Context, db Querier, own func() time.Time) (time.Duration, time.Time, error) {
	var now time.Time
	begin := own()
	if err := db.QueryRow(ctx, nowSQL).Scan(&now); err != nil {
		return 0, time.Time{}, fmt.Errorf("ask the database for its time: %w", err)
	}
	asked := own().Sub(begin)
	return begin.Add(asked / 2).Sub(now), now.UTC(), nil
}
