package delivery

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/postgres/postgrestest"
)

// The statements that run all the time find their rows by index, however many
// there are: under a plan made without knowing the arguments, as the workers'
// connections have it.
func TestHotStatementsUseIndexes(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	w := NewWorker(postgrestest.New(t), Options{})
	if err := w.openHot(ctx); err != nil {
		t.Fatal(err)
	}
	defer w.hot.Close()
	if err := w.Maintain(ctx, time.Now(), time.Time{}); err != nil {
		t.Fatal(err)
	}
	const lanes, each = 200, 100
	replica := uuid.New()
	if _, err := w.hot.Exec(ctx, registerSQL, pgx.NamedArgs{"id": replica, "name": "", "lease": 1e9}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.hot.Exec(ctx, `
WITH subs AS (INSERT INTO tocsin.lane (subscription_id, owner) SELECT gen_random_uuid(), $1 FROM generate_series(1, $2) RETURNING subscription_id)
INSERT INTO tocsin.queue (id, event_id, subscription_id) SELECT tocsin.uuidv7(), gen_random_uuid(), subscription_id FROM subs, generate_series(1, $3)`,
		replica, lanes, each); err != nil {
		t.Fatal(err)
	}
	var some []settlement
	rows, err := w.hot.Query(ctx, `SELECT DISTINCT ON (subscription_id) id, subscription_id FROM tocsin.queue`)
	if err != nil {
		t.Fatal(err)
	}
	var id, sub uuid.UUID
	if _, err := pgx.ForEachRow(rows, []any{&id, &sub}, func() error {
		some = append(some, settlement{lane: &lane{id: sub}, id: id, state: stateDelivered, number: 1, class: ClassDelivered, begun: time.Now()})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	settle := settleArgs(some)
	settle["owner"] = replica
	var ids, afters [][16]byte
	var limits []int32
	var times []time.Time
	for _, s := range some {
		ids, afters, limits, times = append(ids, s.lane.id), append(afters, [16]byte{}), append(limits, 10), append(times, time.Time{})
	}
	for name, c := range map[string]struct {
		sql  string
		args pgx.NamedArgs
	}{
		"discover": {discoverSQL, pgx.NamedArgs{}},
		"fetch":    {fetchSQL, pgx.NamedArgs{"ids": ids, "limits": limits, "times": times, "afters": afters}},
		"settle":   {settleSQL, settle},
	} {
		plan := explain(ctx, t, w, c.sql, c.args)
		// The replicas are a handful.
		if strings.Contains(strings.ReplaceAll(plan, "Seq Scan on replica", ""), "Seq Scan") {
			t.Errorf("%s reads a table from end to end:\n%s", name, plan)
		}
		for line := range strings.Lines(plan) {
			// A join that tries every pair shows as so many rows thrown away.
			if _, n, ok := strings.Cut(line, "Rows Removed by Join Filter: "); ok && len(strings.TrimSpace(n)) > 3 {
				t.Errorf("%s compares every pair of rows:\n%s", name, plan)
			}
		}
		if testing.Verbose() {
			t.Logf("%s:\n%s", name, plan)
		}
	}
}

func explain(ctx context.Context, t *testing.T, w *Worker, sql string, args pgx.NamedArgs) string {
	t.Helper()
	rows, err := w.hot.Query(ctx, "EXPLAIN (ANALYZE, COSTS OFF) "+sql, args)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}
