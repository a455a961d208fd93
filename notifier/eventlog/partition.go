package eventlog

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Partitions of the event log are made this many days ahead.
const partitionsAhead = 7

// partitionLock is held while partitions are made and dropped, so that
// replicas do not get in one another's way.
const partitionLock = 5005002

const lockPartitions = `SELECT pg_try_advisory_xact_lock(@key::bigint)`

const listPartitions = `
SELECT c.relname FROM pg_inherits i
JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'tocsin.event'::regclass AND c.relname ~ '^event_[0-9]{8}$'`

const strayEvents = `SELECT EXISTS (SELECT FROM tocsin.event_default WHERE id >= tocsin.uuidv7_floor(@from) AND id < tocsin.uuidv7_floor(@to))`

const dropStray = `DELETE FROM tocsin.event_default WHERE id < tocsin.uuidv7_floor(@before)`

const dropDeletions = `DELETE FROM tocsin.notification_deleted WHERE event_id < tocsin.uuidv7_floor(@before)`

const dropChanges = `DELETE FROM tocsin.change_events WHERE until < tocsin.uuidv7_floor(@before)`

// keepPartitions keeps the partitions until ctx ends: at once, then hourly.
func (l *Log) keepPartitions(ctx context.Context) {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		if err := l.Partition(ctx); err != nil && ctx.Err() == nil {
			l.Logger.WarnContext(ctx, "the event log's partitions could not be kept", "reason", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Partition makes the event log's partitions for the days ahead and drops
// those that retention has passed. If another process is at it, it does
// nothing.
func (l *Log) Partition(ctx context.Context) error {
	return pgx.BeginFunc(ctx, l.Pool, func(tx pgx.Tx) error {
		var ours bool
		if err := tx.QueryRow(ctx, lockPartitions, pgx.NamedArgs{"key": partitionLock}).Scan(&ours); err != nil || !ours {
			return err
		}
		// Making and dropping partitions waits for running transactions and
		// holds up new ones: rather give up and come again.
		if _, err := tx.Exec(ctx, `SET LOCAL lock_timeout = '5s'`); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, listPartitions)
		if err != nil {
			return fmt.Errorf("eventlog: list partitions: %w", err)
		}
		names, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return fmt.Errorf("eventlog: list partitions: %w", err)
		}
		have := make(map[string]bool, len(names))
		for _, n := range names {
			have[n] = true
		}
		today := l.Now().UTC().Truncate(24 * time.Hour)
		for d := 0; d <= partitionsAhead; d++ {
			day := today.AddDate(0, 0, d)
			if !have[partitionName(day)] {
				if err := makePartition(ctx, tx, day, d == 0); err != nil {
					return err
				}
			}
		}
		return dropPartitions(ctx, tx, names, l.Now().Add(-l.Retention))
	})
}

func partitionName(day time.Time) string { return "event_" + day.Format("20060102") }

// makePartition makes the partition of a day, and moves into it what had to go
// to the default partition for want of it. That of a day to come is attached
// while others write. That of a day whose events may be in the default
// partition, or on their way there, makes all others wait: a writer would find
// the default partition closed to it, and a reader that had looked up where to
// read would not see what was moved.
func makePartition(ctx context.Context, tx pgx.Tx, day time.Time, now bool) error {
	name := pgx.Identifier{"tocsin", partitionName(day)}.Sanitize()
	next := day.AddDate(0, 0, 1)
	stray := true
	if !now {
		if err := tx.QueryRow(ctx, strayEvents, pgx.NamedArgs{"from": day, "to": next}).Scan(&stray); err != nil {
			return fmt.Errorf("eventlog: look for events without a partition: %w", err)
		}
	}
	low, high := uuidFloor(day.UnixMilli()), uuidFloor(next.UnixMilli())
	statements := []string{
		fmt.Sprintf(`CREATE TABLE %s (LIKE tocsin.event INCLUDING ALL)`, name),
		fmt.Sprintf(`ALTER TABLE tocsin.event ATTACH PARTITION %s FOR VALUES FROM ('%s') TO ('%s')`, name, low, high),
	}
	if stray {
		move := fmt.Sprintf(`WITH moved AS (DELETE FROM tocsin.event_default WHERE id >= '%s' AND id < '%s' RETURNING *) INSERT INTO %s SELECT * FROM moved`, low, high, name)
		statements = []string{`LOCK TABLE ONLY tocsin.event IN ACCESS EXCLUSIVE MODE`, statements[0], move, statements[1]}
	}
	for _, s := range statements {
		if _, err := tx.Exec(ctx, s); err != nil {
			return fmt.Errorf("eventlog: make partition %s: %w", name, err)
		}
	}
	return nil
}

// dropPartitions drops the partitions that end before a moment.
func dropPartitions(ctx context.Context, tx pgx.Tx, names []string, before time.Time) error {
	for _, n := range names {
		day, err := time.Parse("event_20060102", n)
		if err != nil || day.AddDate(0, 0, 1).After(before) {
			continue
		}
		if _, err := tx.Exec(ctx, `DROP TABLE `+pgx.Identifier{"tocsin", n}.Sanitize()); err != nil {
			return fmt.Errorf("eventlog: drop partition %s: %w", n, err)
		}
	}
	for _, statement := range []string{dropStray, dropDeletions, dropChanges} {
		if _, err := tx.Exec(ctx, statement, pgx.NamedArgs{"before": before}); err != nil {
			return fmt.Errorf("eventlog: drop old events: %w", err)
		}
	}
	return nil
}
