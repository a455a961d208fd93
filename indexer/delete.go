package indexer

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

const deleteManifests = `
WITH unnamed AS (
  DELETE FROM tocsin.name n USING tocsin.manifest m WHERE m.id = n.manifest_id AND m.digest = ANY(@digests)
)
UPDATE tocsin.manifest
SET state = 'deleted', named = false, superseded_at = NULL, verified = false, reason = '', inventory_id = NULL, indexer_state = '', degraded = false, purged = false,
    sealed_key = '', sealed = NULL, updated_at = now()
WHERE digest = ANY(@digests) AND state <> 'deleted'
RETURNING id, digest`

// Delete makes Tocsin forget manifests: updates are no longer held against
// them, and no new event speaks of them. Events of before stay as they are. It
// returns those that were known.
func (ix *Indexer) Delete(ctx context.Context, digests ...string) ([]string, error) {
	digests = slices.Clone(digests)
	for i, d := range digests {
		c, err := canonicalDigest(d)
		if err != nil {
			return nil, &InvalidError{Field: fmt.Sprintf("[%d]", i), Reason: err.Error()}
		}
		digests[i] = c
	}
	rows, err := ix.opts.Pool.Query(ctx, deleteManifests, pgx.NamedArgs{"digests": digests})
	if err != nil {
		return nil, fmt.Errorf("delete manifests: %w", err)
	}
	deleted := []string{}
	ids := map[string]int32{}
	var id int32
	var digest string
	if _, err := pgx.ForEachRow(rows, []any{&id, &digest}, func() error {
		deleted = append(deleted, digest)
		ids[digest] = id
		return nil
	}); err != nil {
		return nil, fmt.Errorf("delete manifests: %w", err)
	}
	// The rows say that it is to be done; maintenance makes up for a failure.
	for _, d := range deleted {
		if err := ix.purgeOne(ctx, ids[d], d); err != nil {
			ix.log.WarnContext(ctx, "deleted manifest not cleaned up after yet", "digest", d, "error", err)
		}
	}
	return deleted, nil
}
