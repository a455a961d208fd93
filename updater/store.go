package updater

import (
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/quay/claircore"
	"github.com/quay/claircore/libvuln/driver"

	"tocsin.dev/tocsin/internal/vulnstore"
)

// A sink is where a run puts what it parsed: the database, or a file for an
// installation without network.
type sink interface {
	// previous returns the fingerprint of the updater's last update and how
	// many rows it had; "" and 0 if there was none.
	previous(ctx context.Context, kind driver.UpdateKind, updater string) (driver.Fingerprint, int64, error)
	vulnerabilities(ctx context.Context, updater string, fp driver.Fingerprint, vulns []*claircore.Vulnerability) (uuid.UUID, error)
	delta(ctx context.Context, updater string, fp driver.Fingerprint, vulns []*claircore.Vulnerability, deleted []string) (uuid.UUID, error)
	enrichments(ctx context.Context, updater string, fp driver.Fingerprint, records []driver.EnrichmentRecord) (uuid.UUID, error)
}

// A database is the sink of an ordinary run: claircore's tables. It holds the
// shared advisory lock while it stores, so that a garbage collection, which
// takes it exclusively, never sees a half-linked operation.
type database struct {
	pool *pgxpool.Pool
	lock int64
}

const selectPrevious = `
SELECT uo.fingerprint,
       CASE uo.kind WHEN 'enrichment' THEN (SELECT count(*) FROM uo_enrich WHERE uo = uo.id)
                    ELSE (SELECT count(*) FROM uo_vuln WHERE uo = uo.id) END
FROM update_operation uo
WHERE uo.updater = @updater AND uo.kind = @kind
ORDER BY uo.id DESC
LIMIT 1`

func (d *database) previous(ctx context.Context, kind driver.UpdateKind, updater string) (fp driver.Fingerprint, rows int64, err error) {
	err = d.pool.QueryRow(ctx, selectPrevious, pgx.NamedArgs{"updater": updater, "kind": string(kind)}).Scan(&fp, &rows)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", 0, nil
	}
	if err != nil {
		return "", 0, fmt.Errorf("last update operation of %s: %w", updater, err)
	}
	return fp, rows, nil
}

const lockShared = `SELECT pg_advisory_xact_lock_shared(@key)`

// update stores one operation in one transaction, while the shared lock is held.
func (d *database) update(ctx context.Context, u vulnstore.Update) (uuid.UUID, error) {
	var stored vulnstore.Stored
	err := pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockShared, pgx.NamedArgs{"key": d.lock}); err != nil {
			return fmt.Errorf("lock for storing: %w", err)
		}
		var err error
		stored, err = vulnstore.Write(ctx, tx, u)
		return err
	})
	if err != nil {
		return uuid.Nil, err
	}
	if _, err := d.pool.Exec(ctx, vulnstore.RefreshLatest); err != nil {
		return stored.Ref, fmt.Errorf("refresh latest_update_operations: %w", err)
	}
	return stored.Ref, nil
}

func (d *database) vulnerabilities(ctx context.Context, updater string, fp driver.Fingerprint, vulns []*claircore.Vulnerability) (uuid.UUID, error) {
	return d.update(ctx, vulnstore.Update{Updater: updater, Fingerprint: fp, Vulns: each(vulns)})
}

func (d *database) delta(ctx context.Context, updater string, fp driver.Fingerprint, vulns []*claircore.Vulnerability, deleted []string) (uuid.UUID, error) {
	return d.update(ctx, vulnstore.Update{Updater: updater, Fingerprint: fp, Vulns: each(vulns), Delta: true, Deleted: deleted})
}

func each(vulns []*claircore.Vulnerability) iter.Seq2[*claircore.Vulnerability, error] {
	return func(yield func(*claircore.Vulnerability, error) bool) {
		for _, v := range vulns {
			if !yield(v, nil) {
				return
			}
		}
	}
}

// enrichments stores one operation in one transaction. claircore's own method
// commits the operation before its records, so that whoever reads meanwhile, or
// after a kill, finds an operation without any.
func (d *database) enrichments(ctx context.Context, updater string, fp driver.Fingerprint, records []driver.EnrichmentRecord) (ref uuid.UUID, err error) {
	err = pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockShared, pgx.NamedArgs{"key": d.lock}); err != nil {
			return fmt.Errorf("lock for storing: %w", err)
		}
		var id int64
		if err := tx.QueryRow(ctx, insertEnrichmentOperation, pgx.NamedArgs{"updater": updater, "fingerprint": string(fp)}).Scan(&id, &ref); err != nil {
			return fmt.Errorf("new update operation: %w", err)
		}
		if _, err := tx.Exec(ctx, createIncoming); err != nil {
			return fmt.Errorf("table for incoming records: %w", err)
		}
		rows := pgx.CopyFromSlice(len(records), func(i int) ([]any, error) {
			r := &records[i]
			hash := hashEnrichment(r)
			return []any{hash[:], r.Tags, r.Enrichment}, nil
		})
		if _, err := tx.CopyFrom(ctx, pgx.Identifier{"incoming_enrichment"}, []string{"hash", "tags", "data"}, rows); err != nil {
			return fmt.Errorf("copy records: %w", err)
		}
		if _, err := tx.Exec(ctx, insertEnrichments, pgx.NamedArgs{"updater": updater}); err != nil {
			return fmt.Errorf("insert records: %w", err)
		}
		if _, err := tx.Exec(ctx, linkEnrichments, pgx.NamedArgs{"updater": updater, "operation": id}); err != nil {
			return fmt.Errorf("link records: %w", err)
		}
		return nil
	})
	if err != nil {
		return uuid.Nil, err
	}
	if _, err := d.pool.Exec(ctx, vulnstore.RefreshLatest); err != nil {
		return ref, fmt.Errorf("refresh latest_update_operations: %w", err)
	}
	return ref, nil
}

const (
	insertEnrichmentOperation = `
INSERT INTO update_operation (updater, fingerprint, kind) VALUES (@updater, @fingerprint, 'enrichment') RETURNING id, ref`

	createIncoming = `
CREATE TEMP TABLE incoming_enrichment (hash bytea, tags text[], data jsonb) ON COMMIT DROP`

	insertEnrichments = `
INSERT INTO enrichment (hash_kind, hash, updater, tags, data)
SELECT DISTINCT ON (hash) 'md5', hash, @updater, tags, data FROM incoming_enrichment ORDER BY hash
ON CONFLICT (hash_kind, hash) DO NOTHING`

	linkEnrichments = `
INSERT INTO uo_enrich (uo, enrich, updater, date)
SELECT DISTINCT @operation::bigint, e.id, @updater, transaction_timestamp()
FROM incoming_enrichment i
JOIN enrichment e ON e.hash_kind = 'md5' AND e.hash = i.hash`
)

// hashEnrichment identifies a record as claircore does: rows that it stored are
// found again.
func hashEnrichment(r *driver.EnrichmentRecord) [md5.Size]byte {
	slices.Sort(r.Tags)
	var b []byte
	for _, t := range r.Tags {
		b = append(append(b, t...), 0)
	}
	return md5.Sum(append(b, r.Enrichment...))
}

// settle mends what a killed process may have left: an enrichment operation that
// never got its records (stored by claircore's own tools), and operations that
// reports do not look at yet, since claircore refreshes its view of the latest
// ones only after it committed. It reports whether there was anything, so that
// the matcher has to be woken, and whether it was left for good: not so a commit
// of the last hour, after which another process may be about to refresh itself.
func (d *database) settle(ctx context.Context) (mended, left bool, err error) {
	var emptied int64
	err = pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockShared, pgx.NamedArgs{"key": d.lock}); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, deleteEmptyEnrichments)
		emptied = tag.RowsAffected()
		return err
	})
	if err != nil {
		return false, false, fmt.Errorf("remove enrichment operations without records: %w", err)
	}
	var stale bool
	if err := d.pool.QueryRow(ctx, selectStale).Scan(&stale, &left); err != nil {
		return false, false, fmt.Errorf("compare latest update operations: %w", err)
	}
	if !stale {
		return emptied > 0, emptied > 0, nil
	}
	if _, err := d.pool.Exec(ctx, vulnstore.RefreshLatest); err != nil {
		return false, false, fmt.Errorf("refresh latest_update_operations: %w", err)
	}
	return true, emptied > 0 || left, nil
}

const (
	deleteEmptyEnrichments = `
DELETE FROM update_operation uo
WHERE uo.kind = 'enrichment' AND uo.date < now() - INTERVAL '1 hour'
  AND NOT EXISTS (SELECT 1 FROM uo_enrich WHERE uo_enrich.uo = uo.id)`

	// left: the process that committed it has had an hour to refresh the view.
	selectStale = `
SELECT count(*) > 0, coalesce(bool_or(o.date < now() - INTERVAL '1 hour'), false)
FROM (
  SELECT updater, max(id) AS id FROM update_operation GROUP BY updater
  EXCEPT
  SELECT updater, id FROM latest_update_operations
) s JOIN update_operation o ON o.id = s.id`
)
