package matcher

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/quay/claircore"

	"tocsin.dev/tocsin/schemas"
)

// Announcer writes events, and the deliveries that follow from them, in the
// transaction of the rows that they are about. An error of any method undoes the transaction,
// and the engine comes back with the same later. Methods must not use another
// connection for what they write.
type Announcer interface {
	// ManifestIndexed announces one manifest's inventory.
	ManifestIndexed(ctx context.Context, tx pgx.Tx, ev schemas.IndexedEvent) error
	// ManifestsChanged announces one event for each row of the transaction's
	// temporary table affected_manifest, and returns how many there were.
	ManifestsChanged(ctx context.Context, tx pgx.Tx, changeID int64, update schemas.Update) (events int64, err error)
	// UpdateCompleted announces that one update operation has been worked
	// through, whether or not it touched a manifest.
	UpdateCompleted(ctx context.Context, tx pgx.Tx, data schemas.UpdateCompleted) error
}

// IndexReports finds the stored index report of a manifest; libindex does.
type IndexReports interface {
	IndexReport(ctx context.Context, digest claircore.Digest) (*claircore.IndexReport, bool, error)
}

// Waker gives a channel that receives a hint when there may be work. Hints may
// be lost.
type Waker interface {
	OnWake(ctx context.Context, subject string) <-chan struct{}
}
