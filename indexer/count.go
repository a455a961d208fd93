package indexer

import (
	"context"

	"github.com/jackc/pgx/v5"
)

const countByState = `SELECT state, count(*) FROM tocsin.manifest GROUP BY state`

// CountByState counts the manifests in each state; a state without any is absent.
func (ix *Indexer) CountByState(ctx context.Context) (map[string]int, error) {
	rows, err := ix.opts.Pool.Query(ctx, countByState)
	if err != nil {
		return nil, err
	}
	counts := map[string]int{}
	var state string
	var n int
	_, err = pgx.ForEachRow(rows, []any{&state, &n}, func() error {
		counts[state] = n
		return nil
	})
	return counts, err
}
