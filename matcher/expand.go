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
  severityrank smallint, fixable boolean, kev boolean, epss smallint,
  attributes jsonb -- further attributes of the event by name, or NULL
) ON COMMIT DROP;
`
	// insertAffectedOccurrences sums up what a change means for whoever has an
	// occurrence. flags: bit 0–5 the severity ranks of what was added and
	// revised, bit 6 fixable, bit 7 in KEV, bit 8 always; bit 9–16 the same of
	// what was removed. epss is -1 for none.
	insertAffectedOccurrences = `
INSERT INTO affected_occurrence (occurrence, added, removed, revised, flags, epss)
SELECT f.occurrence_id, count(*) FILTER (WHERE f.kind = 0), count(*) FILTER (WHERE f.kind = 1), count(*) FILTER (WHERE f.kind = 2),
  256 | coalesce(bit_or(((1 << a.severityrank) | (a.fixable::integer << 6) | (a.kev::integer << 7)) << CASE WHEN f.kind = 1 THEN 9 ELSE 0 END), 0),
  coalesce(max(a.epss) FILTER (WHERE f.kind <> 1), -1)
FROM tocsin.change_finding f JOIN tocsin.advisory a ON a.id = f.advisory_id
WHERE f.change_id = @change
GROUP BY f.occurrence_id`

	// insertAffectedManifests takes apart what one of the statements below sums
	// up by inventory. Where nothing was added or revised, severity, fixable and
	// kev are those of what was removed, so that whoever was told of a finding
	// is told of its end.
	insertAffectedManifests = `
INSERT INTO affected_manifest
SELECT m.id, x.inventory_id, coalesce(m.naming_id, 0), x.added, x.removed, x.revised,
  CASE WHEN f.of & 32 <> 0 THEN 5 WHEN f.of & 16 <> 0 THEN 4 WHEN f.of & 8 <> 0 THEN 3
       WHEN f.of & 4 <> 0 THEN 2 WHEN f.of & 2 <> 0 THEN 1 ELSE 0 END,
  f.of & 64 <> 0, f.of & 128 <> 0, nullif(x.epss, -1),
  jsonb_strip_nulls(jsonb_build_object('superseded', CASE WHEN s.manifest_id IS NOT NULL THEN true END, 'coverage', ` + coverageSQL + `))
FROM (%s) x
CROSS JOIN LATERAL (SELECT CASE WHEN x.flags & 63 <> 0 THEN x.flags ELSE x.flags >> 9 END AS of) f
JOIN tocsin.manifest m ON m.id = x.manifest_id AND m.state <> 'deleted'
LEFT JOIN tocsin.superseded s ON s.manifest_id = m.id
LEFT JOIN tocsin.inventory_surrounding g ON g.inventory_id = x.inventory_id
WHERE x.flags <> 0`

	// dropToldWith leaves one manifest of those that are one image in several
	// compressions.
	dropToldWith = `
DELETE FROM affected_manifest a USING tocsin.told_with t, affected_manifest b
WHERE t.manifest_id = a.manifest_id AND b.manifest_id = t.twin_id`

	// byIndex asks the index over inventories who has each occurrence: its cost
	// is that of the (occurrence, manifest) pairs it finds.
	byIndex = sums + `
  FROM affected_occurrence a JOIN tocsin.inventory i ON i.current AND i.occurrences @> ARRAY[a.occurrence]
  GROUP BY i.id`

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

	// byJoin joins all inventories, for ids too far apart for arrays.
	byJoin = sums + `
  FROM (SELECT id, manifest_id, unnest(occurrences) AS occurrence FROM tocsin.inventory WHERE current) i
  JOIN affected_occurrence a ON a.occurrence = i.occurrence
  GROUP BY i.id, i.manifest_id`

	sums = `
  SELECT i.id AS inventory_id, i.manifest_id, sum(a.added) AS added, sum(a.removed) AS removed, sum(a.revised) AS revised,
    bit_or(a.flags) AS flags, max(a.epss) AS epss`

	// sample is how many inventories are looked at to guess how many pairs there
	// are; with more than manyHits in one, on average, reading all is cheaper.
	sample, manyHits = 200, 20
	// maxSpan bounds the arrays of byLookup, and with them this process's
	// memory: 12 bytes an id and array, its way to the server included.
	maxSpan = 1 << 20
)

// expand writes the change's findings and fills affected_manifest, and returns
// how many manifests it has.
func (w *work) expand(ctx context.Context, change int64) (int64, error) {
	if _, err := w.tx.Conn().PgConn().Exec(ctx, affectedTables).ReadAll(); err != nil {
		return 0, err
	}
	n, err := w.exec(ctx, insertChangeFindings, pgx.NamedArgs{"change": change})
	if err != nil {
		return 0, fmt.Errorf("findings: %w", err)
	}
	if n == 0 {
		return 0, nil
	}
	if _, err := w.exec(ctx, insertAffectedOccurrences, pgx.NamedArgs{"change": change}); err != nil {
		return 0, fmt.Errorf("affected packages: %w", err)
	}
	if _, err := w.exec(ctx, `ANALYZE affected_occurrence`, nil); err != nil {
		return 0, err
	}
	var a extent
	err = w.tx.QueryRow(ctx, measureOccurrences, pgx.NamedArgs{"sample": sample}).
		Scan(&a.min, &a.max, &a.added, &a.removed, &a.revised, &a.epss, &a.hits)
	if err != nil {
		return 0, fmt.Errorf("affected packages: %w", err)
	}
	from, args := byIndex, pgx.NamedArgs{}
	switch span := int64(a.max) - int64(a.min) + 1; {
	case a.hits <= manyHits:
	case span > maxSpan:
		from = byJoin
	default:
		if from, args, err = w.lookup(ctx, a); err != nil {
			return 0, fmt.Errorf("affected packages: %w", err)
		}
	}
	if args["covered"], err = w.covered(ctx, w.tx); err != nil {
		return 0, err
	}
	manifests, err := w.exec(ctx, fmt.Sprintf(insertAffectedManifests, from), args)
	if err != nil {
		return 0, fmt.Errorf("affected manifests: %w", err)
	}
	dropped, err := w.exec(ctx, dropToldWith, nil)
	if err != nil {
		return 0, fmt.Errorf("compressions of one image: %w", err)
	}
	return manifests - dropped, nil
}

// extent is what affected_occurrence holds: of which ids, which columns have
// a value, and how many of them an inventory has, by a sample.
type extent struct {
	min, max                      int32
	added, removed, revised, epss bool
	hits                          float64
}

const (
	measureOccurrences = `
SELECT min(occurrence), max(occurrence), bool_or(added > 0), bool_or(removed > 0), bool_or(revised > 0), bool_or(epss >= 0),
  (SELECT coalesce(count(h.occurrence)::float8 / nullif(count(DISTINCT o.id), 0), 0)
   FROM (SELECT s.id, unnest(s.occurrences) AS occurrence
         FROM (SELECT id, occurrences FROM tocsin.inventory WHERE current ORDER BY id DESC LIMIT @sample) s) o
   LEFT JOIN affected_occurrence h ON h.occurrence = o.occurrence)
FROM affected_occurrence`
	selectAffectedOccurrences = `SELECT occurrence, added, removed, revised, flags, epss FROM affected_occurrence`
)

// lookup makes the statement and the arrays of byLookup. A column without
// values costs nothing.
func (w *work) lookup(ctx context.Context, a extent) (string, pgx.NamedArgs, error) {
	args := pgx.NamedArgs{"base": a.min - 1}
	var columns []string
	arrays := make([][]int32, 0, 5)
	for _, c := range []struct {
		name, sum string
		wanted    bool
		empty     int32
	}{{"added", "sum", a.added, 0}, {"removed", "sum", a.removed, 0}, {"revised", "sum", a.revised, 0}, {"epss", "max", a.epss, -1}, {"flags", "", true, 0}} {
		var array []int32
		switch {
		case !c.wanted:
			columns = append(columns, fmt.Sprintf("%d AS %s", c.empty, c.name))
		case c.sum != "":
			columns = append(columns, fmt.Sprintf("coalesce(%s((@%s::integer[])[o.id - @base::integer]), %d) AS %[2]s", c.sum, c.name, c.empty))
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
	return fmt.Sprintf(byLookup, strings.Join(columns, ", ")), args, err
}
