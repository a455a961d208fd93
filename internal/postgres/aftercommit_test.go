package postgres_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/postgres"
	"tocsin.dev/tocsin/internal/postgres/postgrestest"
)

func TestAfterCommit(t *testing.T) {
	t.Parallel()
	pool := postgrestest.Empty(t)
	ctx := t.Context()
	errGiveUp := errors.New("give up")
	for _, tc := range []struct {
		name string
		do   func(ctx context.Context, tx pgx.Tx, f func()) error
		want int
	}{
		{"committed", func(_ context.Context, tx pgx.Tx, f func()) error { postgres.AfterCommit(tx, "k", f); return nil }, 1},
		{"twice with one key", func(_ context.Context, tx pgx.Tx, f func()) error {
			postgres.AfterCommit(tx, "k", f)
			postgres.AfterCommit(tx, "k", f)
			return nil
		}, 1},
		{"two keys", func(_ context.Context, tx pgx.Tx, f func()) error {
			postgres.AfterCommit(tx, "k", f)
			postgres.AfterCommit(tx, "l", f)
			return nil
		}, 2},
		{"nothing", func(context.Context, pgx.Tx, func()) error { return nil }, 0},
		{"rolled back", func(_ context.Context, tx pgx.Tx, f func()) error { postgres.AfterCommit(tx, "k", f); return errGiveUp }, 0},
		{"failed", func(ctx context.Context, tx pgx.Tx, f func()) error {
			postgres.AfterCommit(tx, "k", f)
			_, _ = tx.Exec(ctx, "SELECT 1/0")
			return nil // the commit rolls back
		}, 0},
		{"in a savepoint", func(ctx context.Context, tx pgx.Tx, f func()) error {
			return pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { postgres.AfterCommit(tx, "k", f); return nil })
		}, 1},
		{"before a savepoint that is rolled back", func(ctx context.Context, tx pgx.Tx, f func()) error {
			postgres.AfterCommit(tx, "k", f)
			_ = pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { _, err := tx.Exec(ctx, "SELECT 1/0"); return err })
			return nil
		}, 1},
	} {
		calls, inside := 0, true
		err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			err := tc.do(ctx, tx, func() {
				if calls++; inside {
					t.Errorf("%s: called before the commit", tc.name)
				}
			})
			inside = false
			return err
		})
		if calls != tc.want {
			t.Errorf("%s: called %d times, want %d (%v)", tc.name, calls, tc.want, err)
		}
		// What a transaction left behind does not reach the next one.
		if err := pgx.BeginFunc(ctx, pool, func(pgx.Tx) error { return nil }); err != nil || calls != tc.want {
			t.Errorf("%s: called %d times after the next commit, %v", tc.name, calls, err)
		}
	}
}
