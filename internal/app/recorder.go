package app

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/quay/claircore"

	"tocsin.dev/tocsin/indexer"
	"tocsin.dev/tocsin/internal/jobs"
	"tocsin.dev/tocsin/matcher"
)

// recorder hands the indexer's reports to the matcher. Each needs the other:
// engine is set before either runs.
type recorder struct{ engine *matcher.Engine }

func (r *recorder) Indexed(ctx context.Context, m indexer.Indexed, report *claircore.IndexReport) error {
	err := r.engine.Indexed(ctx, matcher.Manifest{
		ID: m.ID, Digest: m.Digest, Names: m.Names, Labels: m.Labels, NamingID: m.NamingID, IndexerState: m.IndexerState,
		Reindexed: m.Reindexed, Warnings: m.Warnings, Force: m.Force,
	}, report)
	if errors.Is(err, matcher.ErrTooManyPackages) {
		return jobs.Permanent(err) // another attempt finds as many
	}
	return err
}

// unrecorded hands the matcher what the indexer finds of Clair's.
type unrecorded struct{ indexer *indexer.Indexer }

func (u unrecorded) Unrecorded(ctx context.Context, after int64, limit int) ([]matcher.Manifest, int64, error) {
	found, next, err := u.indexer.Unrecorded(ctx, after, limit)
	batch := make([]matcher.Manifest, len(found))
	for i, m := range found {
		batch[i] = matcher.Manifest{ID: m.ID, Digest: m.Digest, NamingID: m.NamingID}
	}
	return batch, next, err
}

func (r *recorder) Forget(ctx context.Context, manifestID int32) error {
	return r.engine.Forget(ctx, manifestID)
}

func (r *recorder) Retire(ctx context.Context, tx pgx.Tx, choose func() ([]int32, error)) error {
	return r.engine.Retire(ctx, tx, choose)
}
