package partition_test

import (
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/partition"
	"tocsin.dev/tocsin/internal/postgres/postgrestest"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

// The database's time decides, and a process that is far from it is told so, either
// way.
func TestAProcessThatDisagreesIsToldSo(t *testing.T) {
	t.Parallel()
	pool := postgrestest.New(t)
	for _, off := range []time.Duration{100 * 24 * time.Hour, -100 * 24 * time.Hour} {
		now, err := partition.Now(t.Context(), pool, func() time.Time { return time.Now().Add(off) })
		if !errors.Is(err, partition.ErrClocks) || time.Since(now).Abs() > time.Hour {
			t.Errorf("%v off: %v, %v; want the database's time and the disagreement", off, now, err)
		}
	}
	if now, err := partition.Now(t.Context(), pool, time.Now); err != nil || time.Since(now).Abs() > time.Hour {
		t.Errorf("%v, %v", now, err)
	}
}

// Whatever the time is said to be, one run drops so many partitions and no more, the
// oldest, and writes each down.
func TestARunDropsLittle(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := postgrestest.New(t)
	table := partition.Table{Name: "event", Column: "id", Ahead: 9}
	run := func(now, before time.Time) (r partition.Result) {
		t.Helper()
		err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) (err error) {
			r, err = table.Maintain(ctx, tx, now, before)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	begin := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	run(begin, begin) // ten days
	far := begin.AddDate(0, 0, 110)
	table.Ahead = 0
	first := run(far, far.AddDate(0, 0, -90))
	if len(first.Dropped) != partition.MostDropped || first.Dropped[0] != "event_20260301" || first.Left != 10-partition.MostDropped {
		t.Errorf("dropped %v, %d left", first.Dropped, first.Left)
	}
	var entries int
	var noted []string
	if err := pool.QueryRow(ctx, `SELECT count(*), array_agg(p) FROM tocsin.audit, jsonb_array_elements_text(detail->'partitions') AS p WHERE action = 'partitions.drop'`).
		Scan(&entries, &noted); err != nil || entries != partition.MostDropped || noted[0] != "event_20260301" {
		t.Errorf("the audit log has %v, %v", noted, err)
	}
}
