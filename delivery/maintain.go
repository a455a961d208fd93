package delivery

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/partition"
)

// partitioned are the tables with a partition a day.
var partitioned = [...]partition.Table{
	{Name: "delivery", Column: "id", Ahead: 3},
	{Name: "attempt", Column: "delivery_id", Ahead: 3},
}

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
	// The database's time decides, unless this process disagrees with it.
	now, err := partition.Now(ctx, w.db, w.now)
	before := now.Add(-w.o.Retention)
	if errors.Is(err, partition.ErrClocks) {
		w.log.ErrorContext(ctx, "no old deliveries are dropped", slog.Any("error", err))
		before, err = time.Time{}, nil
	}
	if err == nil {
		err = w.Maintain(ctx, now, before)
	}
	if err != nil && ctx.Err() == nil {
		w.log.WarnContext(ctx, "delivery partitions not maintained", slog.Any("error", err))
	}
	if _, err := w.db.Exec(ctx, expireSQL); err != nil && ctx.Err() == nil {
		w.log.WarnContext(ctx, "dead replicas not removed", slog.Any("error", err))
	}
}

// Maintain makes the partitions of now's day and the next ones, and drops
// those whose day ended before the time given; the zero time drops none. If
// another process is at it, it does nothing.
func (w *Worker) Maintain(ctx context.Context, now, before time.Time) error {
	for _, t := range partitioned {
		var done partition.Result
		// A transaction for each: what delivers locks both tables.
		err := pgx.BeginFunc(ctx, w.db, func(tx pgx.Tx) (err error) {
			done, err = t.Maintain(ctx, tx, now, before)
			return err
		})
		if err != nil {
			return err
		}
		if len(done.Dropped) > 0 || done.Trimmed > 0 {
			w.log.InfoContext(ctx, "old deliveries dropped", "partitions", done.Dropped, "rows", done.Trimmed, "left", done.Left,
				"before", before, "retention", w.o.Retention)
		}
	}
	return nil
}
