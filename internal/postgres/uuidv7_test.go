package postgres_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/postgres/postgrestest"
)

func TestUUIDv7Bits(t *testing.T) {
	t.Parallel()
	pool := postgrestest.New(t)
	for _, at := range []time.Time{
		time.UnixMicro(0).UTC(),
		time.Date(2026, 11, 23, 12, 0, 0, 999_999_000, time.UTC),
		time.Date(2026, 11, 23, 12, 0, 0, 1_000, time.UTC),
		time.Date(2039, 1, 2, 3, 4, 5, 123_456_000, time.UTC),
	} {
		var id, floor uuid.UUID
		if err := pool.QueryRow(t.Context(), `SELECT tocsin.uuidv7(@at), tocsin.uuidv7_floor(@at)`, pgx.NamedArgs{"at": at}).Scan(&id, &floor); err != nil {
			t.Fatal(err)
		}
		if id.Version() != 7 || id.Variant() != uuid.RFC4122 {
			t.Errorf("%v: %s has version %d variant %v", at, id, id.Version(), id.Variant())
		}
		var ms int64
		for _, b := range id[:6] {
			ms = ms<<8 | int64(b)
		}
		if ms != at.UnixMilli() {
			t.Errorf("%v: %s says %d ms, want %d", at, id, ms, at.UnixMilli())
		}
		frac := int64(id[6]&15)<<8 | int64(id[7])
		if want := at.UnixMicro() % 1000 * 4096 / 1000; frac != want {
			t.Errorf("%v: %s has fraction %d, want %d", at, id, frac, want)
		}
		if slices.Compare(floor[:], id[:]) > 0 || floor.Version() != 7 || floor.Variant() != uuid.RFC4122 {
			t.Errorf("%v: floor %s is not below %s", at, floor, id)
		}
		var before uuid.UUID
		if err := pool.QueryRow(t.Context(), `SELECT tocsin.uuidv7(@at::timestamptz - interval '1 microsecond')`, pgx.NamedArgs{"at": at.Add(time.Millisecond)}).Scan(&before); err != nil {
			t.Fatal(err)
		}
		var next uuid.UUID
		if err := pool.QueryRow(t.Context(), `SELECT tocsin.uuidv7_floor(@at)`, pgx.NamedArgs{"at": at.Add(time.Millisecond)}).Scan(&next); err != nil {
			t.Fatal(err)
		}
		if slices.Compare(before[:], next[:]) >= 0 {
			t.Errorf("%v: an id of the microsecond before, %s, is not below the floor %s", at, before, next)
		}
	}
}

func TestUUIDv7OrderAndUniqueness(t *testing.T) {
	t.Parallel()
	pool := postgrestest.New(t)
	const n = 50_000
	if _, err := pool.Exec(t.Context(), `CREATE TABLE many (n integer, id uuid NOT NULL DEFAULT tocsin.uuidv7())`); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if _, err := pool.Exec(t.Context(), `INSERT INTO many (n) SELECT generate_series(1, @n)`, pgx.NamedArgs{"n": n}); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d ids in one INSERT: %v", n, time.Since(start))
	var distinct, disorder int
	err := pool.QueryRow(t.Context(), `
SELECT (SELECT count(DISTINCT id) FROM many),
       -- The clock's microsecond is the first 64 bits; the rest is random.
       (SELECT count(*) FROM (SELECT left(id::text, 18) AS stamp, lag(left(id::text, 18)) OVER (ORDER BY n) AS before FROM many) AS p WHERE p.stamp < p.before)`).Scan(&distinct, &disorder)
	if err != nil {
		t.Fatal(err)
	}
	if distinct != n || disorder != 0 {
		t.Errorf("%d distinct ids of %d, %d out of order", distinct, n, disorder)
	}
}
