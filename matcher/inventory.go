package matcher

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/quay/claircore"

	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/schemas"
)

// Manifest is what the indexer knows of a manifest whose index report it hands
// over.
type Manifest struct {
	ID           int32
	Digest       string
	Names        []string
	Labels       map[string]string
	NamingID     int64
	IndexerState string
	Reindexed    bool
	Warnings     []string
	// Force announces the manifest even if nothing about it is new.
	Force bool

	superseded bool     // no name stands for it any more
	also       []string // digests of other compressions of the same image
}

// MaxPackages is how many different packages a manifest may hold.
const MaxPackages = 250_000

// ErrTooManyPackages is returned for a report with more than [MaxPackages].
var ErrTooManyPackages = errors.New("index report has too many packages")

// ErrUnknownManifest is returned for a manifest that isn't there, or was
// deleted or retired.
var ErrUnknownManifest = problem.New(problem.NotFound, "unknown manifest")

const (
	lockBarrierShared = `SELECT pg_advisory_xact_lock_shared(@key)`
	lockBarrier       = `SELECT pg_advisory_xact_lock(@key)`

	// lockImage makes those who record compressions of one image wait for each
	// other, so that the second sees that the first has been told.
	lockImage = `
SELECT pg_advisory_xact_lock(hashtextextended(image, 4)) FROM tocsin.manifest WHERE id = @manifest AND twinned`

	// selectTwins lists the other compressions of an image that hold the same,
	// and says whether one of them, with all the names of this one, has been
	// told of as the same scanners have indexed it; labels count like names.
	selectTwins = `
SELECT coalesce(array_agg(o.digest ORDER BY o.digest), '{}'), coalesce(bool_or(n.names @> @names::text[] AND n.labels @> @labels::jsonb AND o.indexer_state = @state), false)
FROM tocsin.twin t
JOIN tocsin.manifest o ON o.id = t.twin_id
JOIN tocsin.naming n ON n.id = o.naming_id
JOIN tocsin.inventory i ON i.manifest_id = o.id AND i.current AND i.occurrences = @occurrences::integer[]
WHERE t.manifest_id = @manifest`

	lockManifest = `
SELECT m.state = 'indexed', m.indexer_state, s.manifest_id IS NOT NULL, i.id, coalesce(i.occurrences, '{}')
FROM tocsin.manifest m
LEFT JOIN tocsin.inventory i ON i.manifest_id = m.id AND i.current
LEFT JOIN tocsin.superseded s ON s.manifest_id = m.id
WHERE m.id = @manifest AND m.state NOT IN ('deleted', 'retired')
FOR UPDATE OF m`

	retireInventory = `UPDATE tocsin.inventory SET current = false, retired_at = now() WHERE manifest_id = @manifest AND current`

	retireInventories = `UPDATE tocsin.inventory SET current = false, retired_at = now() WHERE manifest_id = ANY(@manifests) AND current`

	insertInventory = `
INSERT INTO tocsin.inventory (manifest_id, occurrences, current)
VALUES (@manifest, @occurrences, true) RETURNING id`

	setIndexed = `
UPDATE tocsin.manifest
SET state = 'indexed', reason = '', returned = false, inventory_id = @inventory, indexer_state = @state, indexed_at = now(), updated_at = now()
WHERE id = @manifest`
)

// Indexed records what a manifest holds and announces it, with the findings
// that the updates announced so far amount to, in one transaction: an update
// that is being worked through at the same time is either in those findings or
// comes as a change later. Repeating it with the same report and indexer state
// does nothing. Of an image that has been told of in another compression, under
// the same names, it announces nothing. Errors: [ErrUnknownManifest], [ErrTooManyPackages].
func (e *Engine) Indexed(ctx context.Context, m Manifest, report *claircore.IndexReport) error {
	if err := e.indexed(ctx, m, report); err != nil {
		return fmt.Errorf("record inventory of %s: %w", m.Digest, err)
	}
	return nil
}

func (e *Engine) indexed(ctx context.Context, m Manifest, report *claircore.IndexReport) error {
	switch {
	case e.announcer == nil:
		return errors.New("the engine has no announcer")
	case report == nil || !report.Success:
		return errors.New("the index report is not that of a finished index")
	case len(report.Packages) > MaxPackages:
		return fmt.Errorf("%w: %d, at most %d", ErrTooManyPackages, len(report.Packages), MaxPackages)
	}
	occurrences, err := occurrencesOf(report)
	if err != nil {
		return err
	}
	coverage, err := e.Coverage(ctx, report)
	if err != nil {
		return err
	}
	said := inventoried{packages: len(report.Packages), occurrences: occurrences, coverage: coverage.Degraded(m.Warnings)}
	return e.prepared(ctx, func() error { return e.recordInventory(ctx, m, said) })
}

// inventoried is what an index report amounts to.
type inventoried struct {
	packages    int
	occurrences []keyed
	coverage    schemas.Coverage
	silent      bool // nothing is announced
}

// recordInventory writes the inventory of a manifest and announces it, in one transaction.
func (e *Engine) recordInventory(ctx context.Context, m Manifest, r inventoried) error {
	return pgx.BeginFunc(ctx, e.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockBarrierShared, pgx.NamedArgs{"key": BarrierKey}); err != nil {
			return err
		}
		if err := e.checkMatchers(ctx, tx); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, lockImage, pgx.NamedArgs{"manifest": m.ID}); err != nil {
			return err
		}
		var done bool
		var state string
		var inventory *int64
		var held []int32
		err := tx.QueryRow(ctx, lockManifest, pgx.NamedArgs{"manifest": m.ID}).Scan(&done, &state, &m.superseded, &inventory, &held)
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrUnknownManifest
		}
		if err != nil {
			return err
		}
		ids, err := e.storeOccurrences(ctx, tx, r.occurrences)
		if err != nil {
			return err
		}
		same := inventory != nil && slices.Equal(ids, held)
		if same && done && state == m.IndexerState && !m.Force {
			return nil
		}
		if !same {
			if inventory, err = replaceInventory(ctx, tx, m.ID, ids); err != nil {
				return err
			}
			if err := surround(ctx, tx, *inventory); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, setIndexed, pgx.NamedArgs{"manifest": m.ID, "inventory": *inventory, "state": m.IndexerState}); err != nil {
			return err
		}
		if r.silent {
			return nil
		}
		var told bool
		args := pgx.NamedArgs{"manifest": m.ID, "names": m.Names, "labels": labels(m), "state": m.IndexerState, "occurrences": ids}
		if err := tx.QueryRow(ctx, selectTwins, args).Scan(&m.also, &told); err != nil {
			return fmt.Errorf("compressions of one image: %w", err)
		}
		if told && !m.Force && len(m.Warnings) == 0 {
			return nil
		}
		return e.announceIndexed(ctx, tx, m, *inventory, r, ids)
	})
}

// labels are a manifest's, never nil.
func labels(m Manifest) map[string]string {
	if m.Labels == nil {
		return map[string]string{}
	}
	return m.Labels
}

func replaceInventory(ctx context.Context, tx pgx.Tx, manifest int32, occurrences []int32) (*int64, error) {
	if _, err := tx.Exec(ctx, retireInventory, pgx.NamedArgs{"manifest": manifest}); err != nil {
		return nil, err
	}
	var id int64
	err := tx.QueryRow(ctx, insertInventory, pgx.NamedArgs{"manifest": manifest, "occurrences": occurrences}).Scan(&id)
	return &id, err
}

func (e *Engine) announceIndexed(ctx context.Context, tx pgx.Tx, m Manifest, inventory int64, r inventoried, occurrences []int32) error {
	p, err := e.present(ctx, tx, occurrences)
	if err != nil {
		return fmt.Errorf("count findings: %w", err)
	}
	ev := schemas.IndexedEvent{
		ManifestID: m.ID, InventoryID: inventory, NamingID: m.NamingID,
		Data: schemas.ManifestIndexed{
			Manifest: schemas.Manifest{Digest: m.Digest, Names: m.Names, Labels: m.Labels, Also: m.also, Superseded: m.superseded},
			Packages: r.packages, Vulnerabilities: p.bySeverity, Coverage: &r.coverage,
			IndexerState: m.IndexerState, Reindexed: m.Reindexed, Warnings: slices.Concat(m.Warnings, p.warning()),
		},
		Extensions: p.extensions(),
	}
	ev.Extensions.Coverage = &r.coverage.State
	if m.superseded {
		ev.Extensions.Superseded = &m.superseded
	}
	if len(m.Names) > 0 {
		ev.Extensions.Image = &m.Names[0]
	}
	return e.announcer.ManifestIndexed(ctx, tx, ev)
}

// Forget takes a manifest's inventory out of what later updates are held
// against. Events that speak of it read the same.
func (e *Engine) Forget(ctx context.Context, manifestID int32) error {
	return pgx.BeginFunc(ctx, e.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockBarrierShared, pgx.NamedArgs{"key": BarrierKey}); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, retireInventory, pgx.NamedArgs{"manifest": manifestID})
		return err
	})
}

// Retire takes the inventories of the manifests that choose returns out of what
// later updates are held against, in tx. choose is called when no update is
// being told of, nor will be until the transaction ends.
func (e *Engine) Retire(ctx context.Context, tx pgx.Tx, choose func() ([]int32, error)) error {
	if _, err := tx.Exec(ctx, lockBarrierShared, pgx.NamedArgs{"key": BarrierKey}); err != nil {
		return err
	}
	manifests, err := choose()
	if err != nil || len(manifests) == 0 {
		return err
	}
	_, err = tx.Exec(ctx, retireInventories, pgx.NamedArgs{"manifests": manifests})
	return err
}
