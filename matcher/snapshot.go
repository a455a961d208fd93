package matcher

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/schemas"
)

const selectCurrent = `
SELECT m.id, i.id, coalesce(m.naming_id, 0), m.digest, coalesce(n.names, '{}'), coalesce(n.labels, '{}'), coalesce(m.indexer_state, ''),
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
			_, err = pgx.ForEachRow(rows, []any{&ev.ManifestID, &ev.InventoryID, &ev.NamingID, &m.Digest, &m.Names, &m.Labels, &ev.Data.IndexerState, &m.Superseded, &m.Also, &occurrences}, func() error {
				out, held = append(out, ev), append(held, occurrences)
				*m, occurrences = schemas.Manifest{}, nil
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
				out[i].Data.Packages, out[i].Data.Vulnerabilities, out[i].Data.Warnings = len(held[i]), p.bySeverity, p.warning()
				out[i].Data.Snapshot, out[i].Extensions = true, p.extensions()
				if m := &out[i].Data.Manifest; m.Superseded {
					out[i].Extensions.Superseded = &m.Superseded
				}
			}
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("snapshot of the manifests: %w", err)
	}
	return out, nil
}
