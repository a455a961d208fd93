package indexer

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// A name stands for a set of manifests, one a platform, as of the newest time
// somebody named them. What a manifest was ever called is in its namings.

const (
	lockNames = `SELECT pg_advisory_xact_lock(hashtextextended(name, 3)) FROM unnest(@names::text[]) AS name ORDER BY name`

	// A name without platforms takes the place of one with, and the other way
	// around.
	unpointNames = `
DELETE FROM tocsin.name
WHERE name = ANY(@names) AND (platform = '') <> (@platform = '') AND (@verified OR NOT verified)`

	pointNames = `
INSERT INTO tocsin.name (name, platform, manifest_id, verified)
SELECT n.name, @platform, @manifest, @verified
FROM unnest(@names::text[]) AS n(name)
WHERE @verified OR NOT EXISTS (SELECT FROM tocsin.name o WHERE o.name = n.name AND o.verified)
ON CONFLICT (name, platform) DO UPDATE
SET manifest_id = excluded.manifest_id, verified = excluded.verified, named_at = now()
WHERE excluded.verified OR NOT name.verified`

	dropOthers = `
DELETE FROM tocsin.name n
WHERE n.name = ANY(@names)
  AND NOT EXISTS (SELECT FROM tocsin.manifest m WHERE m.id = n.manifest_id AND m.digest = ANY(@digests))`

	// noteNamed notes that a name stands for a manifest, whose row the caller's
	// transaction holds.
	noteNamed = `
UPDATE tocsin.manifest m SET named = true, superseded_at = NULL
WHERE m.id = @manifest AND (NOT m.named OR m.superseded_at IS NOT NULL)
  AND EXISTS (SELECT FROM tocsin.name n WHERE n.manifest_id = m.id)`
)

// point makes names stand for a manifest, on a platform if that is known. What
// a registry said of a name is not replaced by what somebody else says.
func (s *store) point(ctx context.Context, tx pgx.Tx, manifest int32, names []string, platform string, verified bool) error {
	if len(names) == 0 {
		return nil
	}
	args := pgx.NamedArgs{"names": names, "platform": platform, "manifest": manifest, "verified": verified}
	for _, sql := range []string{lockNames, unpointNames, pointNames, noteNamed} {
		if _, err := tx.Exec(ctx, sql, args); err != nil {
			return err
		}
	}
	return nil
}

// means makes the names of a request stand for a manifest.
func (s *store) means(ctx context.Context, tx pgx.Tx, manifest int32, c claims) error {
	platform := c.labels[platformLabel]
	var asked, others []string
	for _, n := range c.names {
		if n == c.asked {
			asked = append(asked, n)
		} else {
			others = append(others, n)
		}
	}
	if err := s.point(ctx, tx, manifest, asked, platform, true); err != nil {
		return err
	}
	return s.point(ctx, tx, manifest, others, platform, false)
}

// only makes names stand for these manifests alone: a registry was asked for
// all platforms, and has no other.
func (s *store) only(ctx context.Context, names, digests []string) error {
	if _, err := s.pool.Exec(ctx, dropOthers, pgx.NamedArgs{"names": names, "digests": digests}); err != nil {
		return fmt.Errorf("drop platforms that a name has no more: %w", err)
	}
	return nil
}
