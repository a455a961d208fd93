package indexer

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

const (
	// A report is large, and only those of manifests without an inventory are
	// read, as many as are wanted.
	findUnrecorded = `
WITH found AS MATERIALIZED (
  SELECT c.id, c.hash, m.id IS NULL AS fresh FROM public.manifest c LEFT JOIN tocsin.manifest m ON m.digest = c.hash
  WHERE c.id > @after AND (m.id IS NULL OR m.state = 'indexed' AND m.inventory_id IS NULL)
  ORDER BY c.id
)
SELECT f.id, f.hash, f.hash ~ '^sha(256|512):[0-9a-f]+$', f.fresh FROM found f
WHERE (SELECT r.scan_result -> 'success' FROM public.indexreport r WHERE r.manifest_id = f.id) = 'true'
ORDER BY f.id LIMIT @limit`

	// Where the layers can be had nobody knows, so that no attempt is made to
	// index such a manifest again until somebody hands it in.
	adoptManifest = `
INSERT INTO tocsin.manifest (digest, spec, state, attempted_state, packages)
SELECT c.hash,
  jsonb_build_object('hash', c.hash, 'layers', (
    SELECT coalesce(jsonb_agg(jsonb_build_object('hash', l.hash, 'uri', '') ORDER BY ml.i), '[]')
    FROM public.manifest_layer ml JOIN public.layer l ON l.id = ml.layer_id WHERE ml.manifest_id = c.id)),
  'indexed', @state,
  (SELECT count(*) FROM jsonb_object_keys(CASE WHEN jsonb_typeof(r.scan_result -> 'packages') = 'object' THEN r.scan_result -> 'packages' ELSE '{}' END))
FROM public.manifest c JOIN public.indexreport r ON r.manifest_id = c.id
WHERE c.id = @id
ON CONFLICT (digest) DO NOTHING
RETURNING id`

	adoptedManifest = `SELECT id, coalesce(naming_id, 0) FROM tocsin.manifest WHERE digest = @digest AND state = 'indexed' AND inventory_id IS NULL`
)

// Unrecorded returns up to limit manifests that claircore has a finished report
// of and that have no inventory, after a place that the call before returned (0
// at first), and makes rows of them, without names. next is after if there are
// no more. It may be repeated.
func (ix *Indexer) Unrecorded(ctx context.Context, after int64, limit int) (batch []Indexed, next int64, err error) {
	rows, err := ix.opts.Pool.Query(ctx, findUnrecorded, pgx.NamedArgs{"after": after, "limit": limit})
	if err != nil {
		return nil, after, fmt.Errorf("look for index reports without inventories: %w", err)
	}
	type candidate struct {
		ID       int64
		Digest   string
		Fit, New bool
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[candidate])
	if err != nil {
		return nil, after, fmt.Errorf("look for index reports without inventories: %w", err)
	}
	next = after
	for _, c := range found {
		next = c.ID
		if !c.Fit {
			ix.log.WarnContext(ctx, "an index report without a digest is left alone", "manifest", c.Digest)
			continue
		}
		m, ok, err := ix.store.adopt(ctx, c.ID, c.Digest, c.New, ix.state)
		if err != nil {
			return nil, after, fmt.Errorf("make %s known: %w", c.Digest, err)
		}
		if ok {
			batch = append(batch, m)
		}
	}
	return batch, next, nil
}

// adopt makes a row of a manifest of claircore's. ok is false where somebody
// else has done something with it meanwhile.
func (s *store) adopt(ctx context.Context, id int64, digest string, fresh bool, state string) (m Indexed, ok bool, err error) {
	m.Digest = digest
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if fresh {
			var made int32
			err := tx.QueryRow(ctx, adoptManifest, pgx.NamedArgs{"id": id, "state": state}).Scan(&made)
			if err == nil {
				err = s.name(ctx, tx, made, nil, nil, nil)
			}
			if err != nil && !errors.Is(err, pgx.ErrNoRows) {
				return err
			}
		}
		err := tx.QueryRow(ctx, adoptedManifest, pgx.NamedArgs{"digest": digest}).Scan(&m.ID, &m.NamingID)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		ok = err == nil
		return err
	})
	return m, ok, err
}
