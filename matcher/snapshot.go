package matcher

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/schemas"
)

const selectCurrent = `
SELECT m.id, i.id, coalesce(m.naming_id, 0), m.digest, coalesce(n.names, '{}'), coalesce(n.labels, '{}'), coalesce(m.indexer_state, ''), m.warnings,
  s.manifest_id IS NOT NULL, coalesce(n.also, '{}'), i.occurrences
FROM tocsin.inventory i
JOIN tocsin.manifest m ON m.id = i.manifest_id AND m.state <> 'deleted'
LEFT JOIN tocsin.naming n ON n.id = m.naming_id
LEFT JOIN tocsin.superseded s ON s.manifest_id = m.id
WHERE i.current AND i.manifest_id > @after AND NOT EXISTS (SELECT FROM tocsin.told_with t WHERE t.manifest_id = m.id)
ORDER BY i.manifest_id
LIMIT @limit`

// Snapshot describes at most limit manifests as they are now, as their indexed
// events would: those after the given id, in the order of their ids. Nothing is
// written or announced.
func (e *Engine) Snapshot(ctx context.Context, after int32, limit int) ([]schemas.IndexedEvent, error) {
	var out []schemas.IndexedEvent
	err := e.prepared(ctx, func() error {
		out = nil
		opts := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
		return pgx.BeginTxFunc(ctx, e.pool, opts, func(tx pgx.Tx) error {
			if err := e.checkMatchers(ctx, tx); err != nil {
				return err
			}
			rows, err := tx.Query(ctx, selectCurrent, pgx.NamedArgs{"after": after, "limit": limit})
			if err != nil {
				return err
			}
			var held [][]int32
			var ev schemas.IndexedEvent
			var occurrences []int32
			m := &ev.Data.Manifest
			_, err = pgx.ForEachRow(rows, []any{&ev.ManifestID, &ev.InventoryID, &ev.NamingID, &m.Digest, &m.Names, &m.Labels, &ev.Data.IndexerState, &ev.Data.Warnings, &m.Superseded, &m.Also, &occurrences}, func() error {
				out, held = append(out, ev), append(held, occurrences)
				*m, ev.Data.Warnings, occurrences = schemas.Manifest{}, nil, nil
				return nil
			})
			if err != nil {
				return err
			}
			for i := range out {
				p, err := e.present(ctx, tx, held[i])
				if err != nil {
					return err
				}
				out[i].Data.Packages, out[i].Data.Vulnerabilities = len(held[i]), p.bySeverity
				out[i].Data.Warnings = append(out[i].Data.Warnings, p.warning()...)
				out[i].Data.Snapshot, out[i].Extensions = true, p.extensions()
				if m := &out[i].Data.Manifest; m.Superseded {
					out[i].Extensions.Superseded = &m.Superseded
				}
			}
			return nil
		})
	})
	if err == nil {
		err = e.addCoverage(ctx, out)
	}
	if err != nil {
		return nil, fmt.Errorf("snapshot of the manifests: %w", err)
	}
	return out, nil
}

// addCoverage says what could be known of each; of one without packages it says
// nothing.
func (e *Engine) addCoverage(ctx context.Context, events []schemas.IndexedEvent) error {
	ids := make([]int32, len(events))
	for i := range events {
		ids[i] = events[i].ManifestID
	}
	coverages, err := e.Coverages(ctx, ids)
	if err != nil {
		return err
	}
	for i := range events {
		if c, ok := coverages[events[i].ManifestID]; ok {
			c = c.Degraded(events[i].Data.Warnings)
			events[i].Data.Coverage, events[i].Extensions.Coverage = &c, &c.State
		}
	}
	return nil
}
