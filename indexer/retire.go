package indexer

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/schemas"
)

// An image that no name stands for any more is kept, and told of, for
// Options.RetireAfter; then it is retired. How long that is, the database's
// clock says, so that replicas agree.

// retireBatch is how many manifests one transaction retires: each writes an
// event, and updates of feeds wait for it.
const retireBatch = 100

const (
	// Processes of before named was noted may have given names.
	noteNames = `
UPDATE tocsin.manifest m SET named = true WHERE NOT named AND EXISTS (SELECT FROM tocsin.name n WHERE n.manifest_id = m.id)`

	noteSuperseded = `
UPDATE tocsin.manifest SET superseded_at = now()
WHERE superseded_at IS NULL AND state IN ('indexed', 'failed') AND id IN (SELECT manifest_id FROM tocsin.superseded)`

	// A look that began before a name was given may have noted too much.
	noteCurrent = `
UPDATE tocsin.manifest SET superseded_at = NULL
WHERE superseded_at IS NOT NULL AND state <> 'retired' AND id NOT IN (SELECT manifest_id FROM tocsin.superseded)`

	// lockRetirable chooses what may be retired. An image that is known to run
	// must never be: the condition belongs here, and in retireManifests, which
	// sees what was committed until the rows were locked.
	lockRetirable = `
SELECT id FROM tocsin.manifest
WHERE state IN ('indexed', 'failed') AND superseded_at <= now() - @after::interval
ORDER BY superseded_at LIMIT @limit FOR UPDATE SKIP LOCKED`

	// The row is locked, so nobody gives it a name until this is committed; and
	// whoever does so afterwards finds it retired and indexes it again.
	retireManifests = `
UPDATE tocsin.manifest m SET state = 'retired', reason = '', inventory_id = NULL, degraded = false, updated_at = now()
FROM tocsin.naming n
WHERE m.id = ANY(@ids) AND n.id = m.naming_id AND m.id IN (SELECT manifest_id FROM tocsin.superseded)
RETURNING m.id, m.naming_id, m.digest, n.names, n.labels, m.superseded_at`
)

// retire retires the manifests whose time has come, and notes whose time begins.
func (ix *Indexer) retire(ctx context.Context) error {
	if ix.opts.RetireAfter <= 0 {
		return nil
	}
	for _, sql := range []string{noteNames, noteCurrent, noteSuperseded} {
		if _, err := ix.opts.Pool.Exec(ctx, sql); err != nil {
			return fmt.Errorf("look for superseded manifests: %w", err)
		}
	}
	for {
		looked, retired, err := ix.retireSome(ctx)
		if err != nil {
			return fmt.Errorf("retire manifests: %w", err)
		}
		if retired > 0 {
			ix.log.InfoContext(ctx, "manifests retired that no name stands for", "manifests", retired)
		}
		if looked < retireBatch {
			return nil
		}
	}
}

func (ix *Indexer) retireSome(ctx context.Context) (looked, retired int, err error) {
	err = pgx.BeginFunc(ctx, ix.opts.Pool, func(tx pgx.Tx) error {
		return ix.opts.Recorder.Retire(ctx, tx, func() ([]int32, error) {
			rows, err := tx.Query(ctx, lockRetirable, pgx.NamedArgs{"after": ix.opts.RetireAfter, "limit": retireBatch})
			if err != nil {
				return nil, err
			}
			ids, err := pgx.CollectRows(rows, pgx.RowTo[int32])
			if err != nil || len(ids) == 0 {
				return nil, err
			}
			looked = len(ids)
			if rows, err = tx.Query(ctx, retireManifests, pgx.NamedArgs{"ids": ids}); err != nil {
				return nil, err
			}
			gone, err := pgx.CollectRows(rows, scanRetired)
			if err != nil {
				return nil, err
			}
			retired, ids = len(gone), ids[:0]
			for _, ev := range gone {
				ids = append(ids, ev.ManifestID)
				if err := ix.opts.Announcer.ManifestRetired(ctx, tx, ev); err != nil {
					return nil, err
				}
			}
			return ids, nil
		})
	})
	return looked, retired, err
}

func scanRetired(row pgx.CollectableRow) (schemas.RetiredEvent, error) {
	ev := schemas.RetiredEvent{Data: schemas.ManifestRetired{Manifest: schemas.Manifest{Superseded: true}}}
	m := &ev.Data.Manifest
	var since time.Time
	err := row.Scan(&ev.ManifestID, &ev.NamingID, &m.Digest, &m.Names, &m.Labels, &since)
	ev.Data.SupersededAt = since.UTC()
	return ev, err
}
