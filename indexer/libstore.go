package indexer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/quay/claircore"
	"github.com/quay/claircore/indexer"
)

// libStore is claircore's store with five changes.
//
//   - It does not fill manifest_index, claircore's table of every (manifest,
//     package, distribution, repository): the inventory that package matcher
//     keeps holds the same at a small part of the size, and with the link from
//     binary to source packages that manifest_index lacks.
//   - A report in progress, or failed, does not replace a finished one.
//   - A layer that a scanner could not judge for lack of outside data, or could
//     not read, does not count as scanned by it, so that indexing again mends it.
//   - What a layer does to the file system is kept packed, one row a layer,
//     instead of one row a file.
//   - Closing it leaves the pool open, which belongs to others.
type libStore struct {
	indexer.Store
	pool *pgxpool.Pool
}

var _ indexer.Store = (*libStore)(nil)

// Close implements [indexer.Store].
func (*libStore) Close(context.Context) error { return nil }

// IndexManifest implements [indexer.Store].
func (*libStore) IndexManifest(context.Context, *claircore.IndexReport) error { return nil }

// AffectedManifests implements [indexer.Store]. It would look in the table that
// is not filled.
func (*libStore) AffectedManifests(context.Context, claircore.Vulnerability) ([]claircore.Digest, error) {
	return nil, fmt.Errorf("affected manifests: ask the inventory: %w", errors.ErrUnsupported)
}

// SetIndexReport implements [indexer.Store].
func (s *libStore) SetIndexReport(ctx context.Context, r *claircore.IndexReport) error {
	if a := attemptFrom(ctx); a != nil && a.keepReport && !r.Success {
		return nil
	}
	return s.Store.SetIndexReport(ctx, r)
}

// SetLayerScanned implements [indexer.Store].
func (s *libStore) SetLayerScanned(ctx context.Context, layer claircore.Digest, sc indexer.VersionedScanner) error {
	if a := attemptFrom(ctx); a.degradedOn(sc, layer.String()) || a.unreadOn(sc, layer.String()) {
		return nil
	}
	return s.Store.SetLayerScanned(ctx, layer, sc)
}

// SetIndexFinished implements [indexer.Store].
func (s *libStore) SetIndexFinished(ctx context.Context, r *claircore.IndexReport, scs indexer.VersionedScanners) error {
	a := attemptFrom(ctx)
	whole := slices.DeleteFunc(slices.Clone(scs), func(sc indexer.VersionedScanner) bool { return a.degradedOn(sc, "") })
	return s.Store.SetIndexFinished(ctx, r, whole)
}
