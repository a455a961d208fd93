package eventlog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/partition"
)

// partitioned is the event log's table, a partition a day.
var partitioned = partition.Table{Name: "event", Column: "id", Ahead: 7}

const dropDeletions = `DELETE FROM tocsin.notification_deleted WHERE event_id < tocsin.uuidv7_floor(@before)`

const dropChanges = `DELETE FROM tocsin.change_events WHERE until < tocsin.uuidv7_floor(@before)`

// keepPartitions keeps the partitions until ctx ends: at once, then hourly.
func (l *Log) keepPartitions(ctx context.Context) {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		if err := l.partitionNow(ctx); err != nil && ctx.Err() == nil {
			l.Logger.WarnContext(ctx, "the event log's partitions could not be kept", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// partitionNow is [Log.Partition] at the database's time, with the log's
// retention. Where this process's clock disagrees with it, nothing is dropped.
func (l *Log) partitionNow(ctx context.Context) error {
	now, err := partition.Now(ctx, l.Pool, l.Now)
	before := now.Add(-l.Retention)
	if errors.Is(err, partition.ErrClocks) {
		l.Logger.ErrorContext(ctx, "no old events are dropped", "error", err)
		before, err = time.Time{}, nil
	}
	if err != nil {
		return err
	}
	return l.Partition(ctx, now, before)
}

// Partition makes the event log's partitions of now's day and the next ones,
// and drops those whose day ended before the time given; the zero time drops
// none. If another process is at it, it does nothing.
func (l *Log) Partition(ctx context.Context, now, before time.Time) error {
	var done partition.Result
	err := pgx.BeginFunc(ctx, l.Pool, func(tx pgx.Tx) (err error) {
		if done, err = partitioned.Maintain(ctx, tx, now, before); err != nil || !done.Ran || done.Left > 0 || before.IsZero() {
			return err
		}
		for _, statement := range []string{dropDeletions, dropChanges} {
			if _, err := tx.Exec(ctx, statement, pgx.NamedArgs{"before": before}); err != nil {
				return fmt.Errorf("eventlog: drop old events: %w", err)
			}
		}
		return nil
	})
	if err == nil && (len(done.Dropped) > 0 || done.Trimmed > 0) {
		l.Logger.InfoContext(ctx, "old events dropped", "partitions", done.Dropped, "rows", done.Trimmed, "left", done.Left,
			"before", before, "retention", l.Retention)
	}
	return err
}
