package matcher

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

const (
	affectedTables = `
CREATE TEMP TABLE affected_occurrence (occurrence integer, added integer, removed integer, revised integer, flags integer, epss integer) ON COMMIT DROP;
CREATE TEMP TABLE affected_manifest (
  manifest_id integer, inventory_id bigint, naming_id bigint,
  added integer, removed integer, revised integer,
  severityrank smallint, fixable boolean, kev boolean, epss smallint
) ON COMMIT DROP;
`
	// insertAffectedOccurrences sums up what a change means for whoever has an
	// occurrence. flags: bit 0–5 the severity ranks of what was added and
	// revised, bit 6 fixable, bit 7 in KEV, bit 8 always. epss is -1 for none.
	insertAffectedOccurrences = `
INSERT INTO affected_occurrence (occurrence, added, removed, revised, flags, epss)
SELECT f.occurrence_id, count(*) FILTER (WHERE f.kind = 0), count(*) FILTER (WHERE f.kind = 1), count(*) FILTER (WHERE f.kind = 2),
  256 | coalesce(bit_or((1 << a.severityrank) | (a.fixable::integer << 6) | (a.kev::integer << 7)) FILTER (WHERE f.kind <> 1), 0),
  coalesce(max(a.epss) FILTER (WHERE f.kind <> 1), -1)
FROM tocsin.change_finding f JOIN tocsin.advisory a ON a.id = f.advisory_id
WHERE f.change_id = @change
GROUP BY f.occurrence_id`

	// insertAffectedManifests takes apart what one of the two statements below
	// sums up by inventory.
	insertAffectedManifests = `
INSERT INTO affected_manifest
SELECT m.id, x.inventory_id, coalesce(m.naming_id, 0), x.added, x.removed, x.revised,
  CASE WHEN x.flags & 32 <> 0 THEN 5 WHEN x.flags & 16 <> 0 THEN 4 WHEN x.flags & 8 <> 0 THEN 3
       WHEN x.flags & 4 <> 0 THEN 2 WHEN x.flags & 2 <> 0 THEN 1 ELSE 0 END,
  x.flags & 64 <> 0, x.flags & 128 <> 0, nullif(x.epss, -1)
FROM (%s) x
JOIN tocsin.manifest m ON m.id = x.manifest_id
WHERE x.flags <> 0`

	// byJoin joins inventories with the affected occurrences; of a few of those,
	// the index over inventories says who has one.
	byJoin = `
  SELECT i.id AS inventory_id, i.manifest_id, sum(a.added) AS added, sum(a.removed) AS removed, sum(a.revised) AS revised,
    bit_or(a.flags) AS flags, max(a.epss) AS epss
  FROM tocsin.inventory i
  CROSS JOIN LATERAL unnest(i.occurrences) AS o (id)
  JOIN affected_occurrence a ON a.occurrence = o.id
  WHERE i.current%s
  GROUP BY i.id`
	whoHasOne = ` AND i.occurrences && (SELECT array_agg(occurrence) FROM affected_occurrence)`

	// byLookup reads every inventory once and looks each occurrence up by its
	// id in arrays, which costs a third of a hash join and needs no grouping.
	byLookup = `
  SELECT i.id AS inventory_id, i.manifest_id, s.*
  FROM tocsin.inventory i
  CROSS JOIN LATERAL (
    SELECT %s, bit_or((@flags::integer[])[o.id - @base::integer]) AS flags
    FROM unnest(i.occurrences) AS o (id)
  ) s
  WHERE i.current`

	// few is up to how many occurrences the index is asked.
	few = 500
	// maxSpan bounds the arrays of byLookup, and with them this process's
	// memory: 12 bytes an id and array, its way to the server included.
	// Occurrences whose ids lie further apart are joined.
	maxSpan = 1 << 20
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
	if _, err := w.exec(ctx, insertAffectedOccurrences, pgx.NamedArgs{"change": change}); err != nil {
		return 0, fmt.Errorf("affected packages: %w", err)
	}
	var a extent
	err = w.tx.QueryRow(ctx, measureOccurrences).Scan(&a.n, &a.min, &a.max, &a.added, &a.removed, &a.revised, &a.epss)
	if err != nil {
		return 0, fmt.Errorf("affected packages: %w", err)
	}
	var sums string
	var args pgx.NamedArgs
	switch span := int64(a.max) - int64(a.min) + 1; {
	case a.n <= few:
		sums = fmt.Sprintf(byJoin, whoHasOne)
	case span > maxSpan:
		sums = fmt.Sprintf(byJoin, "")
	default:
		if sums, args, err = w.lookup(ctx, a); err != nil {
			return 0, fmt.Errorf("affected packages: %w", err)
		}
	}
	if _, err := w.exec(ctx, `ANALYZE affected_occurrence`, nil); err != nil {
		return 0, err
	}
	manifests, err := w.exec(ctx, fmt.Sprintf(insertAffectedManifests, sums), args)
	if err != nil {
		return 0, fmt.Errorf("affected manifests: %w", err)
	}
	return manifests, nil
}

// extent is what affected_occurrence holds: how many rows, of which ids, and
// which columns say anything.
type extent struct {
	n, min, max                   int32
	added, removed, revised, epss bool
}

const (
	measureOccurrences = `
SELECT count(*)::integer, min(occurrence), max(occurrence), bool_or(added > 0), bool_or(removed > 0), bool_or(revised > 0), bool_or(epss >= 0)
FROM affected_occurrence`
	selectAffectedOccurrences = `SELECT occurrence, added, removed, revised, flags, epss FROM affected_occurrence`
)

// lookup makes the statement and the arrays of byLookup. A column that says
// nothing costs nothing.
func (w *work) lookup(ctx context.Context, a extent) (string, pgx.NamedArgs, error) {
	args := pgx.NamedArgs{"base": a.min - 1}
	var sums []string
	arrays := make([][]int32, 0, 5)
	for _, c := range []struct {
		name, sum string
		wanted    bool
		empty     int32
	}{{"added", "sum", a.added, 0}, {"removed", "sum", a.removed, 0}, {"revised", "sum", a.revised, 0}, {"epss", "max", a.epss, -1}, {"flags", "", true, 0}} {
		var array []int32
		switch {
		case !c.wanted:
			sums = append(sums, fmt.Sprintf("%d AS %s", c.empty, c.name))
		case c.sum != "":
			sums = append(sums, fmt.Sprintf("coalesce(%s((@%s::integer[])[o.id - @base::integer]), %d) AS %[2]s", c.sum, c.name, c.empty))
			fallthrough
		default:
			array = make([]int32, a.max-a.min+1)
			for i := range array {
				array[i] = c.empty
			}
			args[c.name] = array
		}
		arrays = append(arrays, array)
	}
	rows, err := w.tx.Query(ctx, selectAffectedOccurrences)
	if err != nil {
		return "", nil, err
	}
	var id int32
	var v [5]int32 // in the order of arrays
	_, err = pgx.ForEachRow(rows, []any{&id, &v[0], &v[1], &v[2], &v[4], &v[3]}, func() error {
		for i, array := range arrays {
			if array != nil {
				array[id-a.min] = v[i]
			}
		}
		return nil
	})
	return fmt.Sprintf(byLookup, strings.Join(sums, ", ")), args, err
}
