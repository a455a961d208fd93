package matcher

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/schemas"
)

// errRollback ends a transaction that only asked.
var errRollback = errors.New("rolled back")

// ask runs a computation whose tables and findings are thrown away. It sees
// the database as it is at one moment and holds up nobody.
func (e *Engine) ask(ctx context.Context, do func(*work) error) error {
	return e.prepared(ctx, func() error { return e.askOnce(ctx, do) })
}

func (e *Engine) askOnce(ctx context.Context, do func(*work) error) error {
	err := pgx.BeginTxFunc(ctx, e.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
		if err := e.checkMatchers(ctx, tx); err != nil {
			return err
		}
		w, err := e.begin(ctx, tx)
		if err != nil {
			return err
		}
		if err := do(w); err != nil {
			return err
		}
		return errRollback
	})
	if errors.Is(err, errRollback) {
		return nil
	}
	return err
}

const (
	// selectHolders lists the manifests that hold one of the findings'
	// occurrences now.
	selectHolders = `
SELECT i.manifest_id, i.id, m.digest, coalesce(n.names, '{}'), coalesce(n.labels, '{}'), s.manifest_id IS NOT NULL, coalesce(n.also, '{}')
FROM tocsin.inventory i
JOIN tocsin.manifest m ON m.id = i.manifest_id AND m.state <> 'deleted'
LEFT JOIN tocsin.naming n ON n.id = m.naming_id
LEFT JOIN tocsin.superseded s ON s.manifest_id = m.id
WHERE i.current AND i.manifest_id > @after
  AND EXISTS (SELECT FROM unnest(i.occurrences) AS o (id) JOIN finding f ON f.occurrence = o.id)
ORDER BY i.manifest_id
LIMIT @limit`

	selectHeldLines = `
SELECT i.manifest_id, f.occurrence, f.kind, f.vuln, f.previous, (5 - (r.pref >> 57))::smallint AS rank
FROM tocsin.inventory i
CROSS JOIN LATERAL unnest(i.occurrences) AS o (id)
JOIN finding f ON f.occurrence = o.id
JOIN public.vuln v ON v.id = f.vuln
JOIN rated r ON r.vuln = f.vuln
WHERE i.id = ANY(@inventories)
ORDER BY i.manifest_id, rank DESC, v.name, f.occurrence, f.vuln`

	selectContent = `SELECT DISTINCT ON (vuln) vuln, body FROM content WHERE vuln = ANY(@ids) ORDER BY vuln, before`
)

// held is one manifest with the findings it has a part in.
type held struct {
	id       int32
	manifest schemas.Manifest
	lines    []line
}

// holders returns at most limit manifests after the given one, and what their
// findings say.
func (w *work) holders(ctx context.Context, after int32, limit int) ([]held, *dictionary, error) {
	rows, err := w.tx.Query(ctx, selectHolders, pgx.NamedArgs{"after": after, "limit": limit})
	if err != nil {
		return nil, nil, err
	}
	var out []held
	var inventories []int64
	at := make(map[int32]int)
	for rows.Next() {
		var h held
		var inventory int64
		if err := rows.Scan(&h.id, &inventory, &h.manifest.Digest, &h.manifest.Names, &h.manifest.Labels, &h.manifest.Superseded, &h.manifest.Also); err != nil {
			rows.Close()
			return nil, nil, err
		}
		at[h.id] = len(out)
		out, inventories = append(out, h), append(inventories, inventory)
	}
	if err := rows.Err(); err != nil || len(out) == 0 {
		return nil, nil, err
	}
	if rows, err = w.tx.Query(ctx, selectHeldLines, pgx.NamedArgs{"inventories": inventories}); err != nil {
		return nil, nil, err
	}
	var id int32
	var l line
	_, err = pgx.ForEachRow(rows, []any{&id, &l.occurrence, &l.kind, &l.advisory, &l.previous, &l.rank}, func() error {
		out[at[id]].lines = append(out[at[id]].lines, l)
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	dict := newDictionary()
	for _, h := range out {
		dict.want(h.lines)
	}
	if err := dict.loadFrom(ctx, w.tx, selectContent); err != nil {
		return nil, nil, fmt.Errorf("content of the findings: %w", err)
	}
	return out, dict, nil
}
