package matcher

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

const (
	affectedTables = `
CREATE TEMP TABLE affected_occurrence (occurrence integer, added integer, removed integer, revised integer, flags integer, epss smallint) ON COMMIT DROP;
CREATE TEMP TABLE affected_manifest (
  manifest_id integer, inventory_id bigint, naming_id bigint,
  added integer, removed integer, revised integer,
  severityrank smallint, fixable boolean, kev boolean, epss smallint
) ON COMMIT DROP;
`
	// insertAffectedOccurrences sums up what a change means for whoever has an
	// occurrence. flags: bit 0–5 the severity ranks of what was added and
	// revised, bit 6 fixable, bit 7 in KEV.
	insertAffectedOccurrences = `
INSERT INTO affected_occurrence (occurrence, added, removed, revised, flags, epss)
SELECT f.occurrence_id, count(*) FILTER (WHERE f.kind = 0), count(*) FILTER (WHERE f.kind = 1), count(*) FILTER (WHERE f.kind = 2),
  coalesce(bit_or((1 << a.severityrank) | (a.fixable::integer << 6) | (a.kev::integer << 7)) FILTER (WHERE f.kind <> 1), 0),
  max(a.epss) FILTER (WHERE f.kind <> 1)
FROM tocsin.change_finding f JOIN tocsin.advisory a ON a.id = f.advisory_id
WHERE f.change_id = @change
GROUP BY f.occurrence_id`

	// insertAffectedManifests expands occurrences to manifests: one pass over
	// who has what, and one row a manifest.
	insertAffectedManifests = `
INSERT INTO affected_manifest
SELECT m.id, x.inventory_id, coalesce(m.naming_id, 0), x.added, x.removed, x.revised,
  CASE WHEN x.flags & 32 <> 0 THEN 5 WHEN x.flags & 16 <> 0 THEN 4 WHEN x.flags & 8 <> 0 THEN 3
       WHEN x.flags & 4 <> 0 THEN 2 WHEN x.flags & 2 <> 0 THEN 1 ELSE 0 END,
  x.flags & 64 <> 0, x.flags & 128 <> 0, x.epss
FROM (
  SELECT i.id AS inventory_id, i.manifest_id, sum(a.added) AS added, sum(a.removed) AS removed, sum(a.revised) AS revised,
    bit_or(a.flags) AS flags, max(a.epss) AS epss
  FROM tocsin.inventory i
  CROSS JOIN LATERAL unnest(i.occurrences) AS o (id)
  JOIN affected_occurrence a ON a.occurrence = o.id
  WHERE i.current%s
  GROUP BY i.id
) x
JOIN tocsin.manifest m ON m.id = x.manifest_id`

	// fewOccurrences is up to how many affected occurrences the index over
	// inventories is asked who has one, instead of reading all inventories.
	fewOccurrences = 500
	onlyWhoHasThem = ` AND i.occurrences && (SELECT array_agg(occurrence) FROM affected_occurrence)`
)

// expand writes the change's findings and fills affected_manifest, and says
// how many manifests it has.
func (w *work) expand(ctx context.Context, change int64, kind string) (int64, error) {
	if _, err := w.tx.Conn().PgConn().Exec(ctx, affectedTables).ReadAll(); err != nil {
		return 0, err
	}
	n, err := w.exec(ctx, insertChangeFindings, pgx.NamedArgs{"change": change, "kind": kind, "threshold": w.opts.EPSSThreshold})
	if err != nil {
		return 0, fmt.Errorf("findings: %w", err)
	}
	if n == 0 {
		return 0, nil
	}
	occurrences, err := w.exec(ctx, insertAffectedOccurrences, pgx.NamedArgs{"change": change})
	if err != nil {
		return 0, fmt.Errorf("affected packages: %w", err)
	}
	if _, err := w.exec(ctx, `ANALYZE affected_occurrence`, nil); err != nil {
		return 0, err
	}
	scope := ""
	if occurrences <= fewOccurrences {
		scope = onlyWhoHasThem
	}
	manifests, err := w.exec(ctx, fmt.Sprintf(insertAffectedManifests, scope), nil)
	if err != nil {
		return 0, fmt.Errorf("affected manifests: %w", err)
	}
	return manifests, nil
}
