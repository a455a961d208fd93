package app

import (
	"context"

	"github.com/quay/claircore"

	"tocsin.dev/tocsin/indexer"
	"tocsin.dev/tocsin/matcher"
)

// recorder hands the indexer's reports to the matcher. Each needs the other:
// engine is set before either runs.
type recorder struct{ engine *matcher.Engine }

func (r *recorder) Indexed(ctx context.Context, m indexer.Indexed, report *claircore.IndexReport) error {
	return r.engine.Indexed(ctx, matcher.Manifest{
		ID: m.ID, Digest: m.Digest, Names: m.Names, Labels: m.Labels, NamingID: m.NamingID, IndexerState: m.IndexerState,
		Reindexed: m.Reindexed, Warnings: m.Warnings, Force: m.Force,
	}, report)
}

func (r *recorder) Forget(ctx context.Context, manifestID int32) error {
	return r.engine.Forget(ctx, manifestID)
}
