package matcher

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/schemas"
)

// judgeBatch is how many candidates are judged at a time.
const judgeBatch = 5000

// present is what is wrong with some occurrences as of the cursors.
type present struct {
	bySeverity schemas.BySeverity
	top        int // -1 if there is nothing
	fixable    bool
	kev        bool
	epss       *int32
	skips      *Skips
}

const (
	// ratedPairs are the findings of vulnerable pairs: of the rows of one
	// advisory that match one occurrence, the first by preference speaks for it.
	ratedPairs = `
WITH rated AS MATERIALIZED (
  SELECT v.id, v.updater, v.name, ` + fixedVersion + ` AS fixed, s.kev, (s.epss->>'score')::float8 AS epss,
    tocsin.severity_rank(tocsin.effective_severity(v.normalized_severity, s.rank)) AS rank
  FROM (SELECT DISTINCT unnest(@vulns::bigint[]) AS id) d
  JOIN public.vuln v ON v.id = d.id
  LEFT JOIN LATERAL tocsin.enriched(v.id, v.name, v.links, @ops::bigint[]) s ON cardinality(@ops::bigint[]) > 0
), finding AS (
  SELECT DISTINCT ON (r.updater, r.name, p.occurrence) p.occurrence, r.rank, r.fixed, r.kev, r.epss
  FROM unnest(@vulns::bigint[], @occurrences::integer[]) AS p (vuln, occurrence)
  JOIN rated r ON r.id = p.vuln
  ORDER BY r.updater, r.name, p.occurrence, r.rank DESC, r.fixed = '', r.id
)`

	countPresent = ratedPairs + `
SELECT rank, count(*)::integer, bool_or(fixed NOT IN ('', '0')), bool_or(coalesce(kev, false)), max(ceil(least(greatest(epss, 0), 1) * 100))::integer
FROM finding GROUP BY rank`
)

// present finds what is wrong with the occurrences as of the cursors.
func (e *Engine) present(ctx context.Context, tx pgx.Tx, occurrences []int32) (present, error) {
	_, skips := CollectSkips(ctx)
	p := present{top: -1, skips: skips}
	cs, err := e.presentPairs(ctx, tx, occurrences, skips)
	if err != nil || len(cs) == 0 {
		return p, err
	}
	ops, err := enrichmentOps(ctx, tx)
	if err != nil {
		return p, err
	}
	vulns, occs := split(cs)
	rows, err := tx.Query(ctx, countPresent, pgx.NamedArgs{
		"vulns": vulns, "occurrences": occs, "ops": ops.all(),
	})
	if err != nil {
		return p, err
	}
	var rank, n int
	var fixable, kev bool
	var epss *int32
	_, err = pgx.ForEachRow(rows, []any{&rank, &n, &fixable, &kev, &epss}, func() error {
		p.bySeverity.Add(rank, n)
		p.top = max(p.top, rank)
		p.fixable = p.fixable || fixable
		p.kev = p.kev || kev
		if epss != nil && (p.epss == nil || *epss > *p.epss) {
			v := *epss
			p.epss = &v
		}
		return nil
	})
	return p, err
}

// presentPairs returns the vulnerable (vulnerability, occurrence) pairs of
// these occurrences as of the cursors.
func (e *Engine) presentPairs(ctx context.Context, tx pgx.Tx, occurrences []int32, skips *Skips) ([]candidate, error) {
	rows, err := tx.Query(ctx, e.sql.ofManifest, pgx.NamedArgs{"occurrences": occurrences})
	if err != nil {
		return nil, err
	}
	cs, err := pgx.CollectRows(rows, scanCandidate)
	if err != nil {
		return nil, err
	}
	j := e.newJudge(tx, skips)
	out := cs[:0]
	for batch := range slices.Chunk(cs, judgeBatch) {
		ok, err := j.accept(ctx, batch)
		if err != nil {
			return nil, err
		}
		out = append(out, ok...)
	}
	return out, nil
}

func scanCandidate(row pgx.CollectableRow) (candidate, error) {
	var c candidate
	err := row.Scan(&c.vuln, &c.occurrence, &c.mask)
	return c, err
}

// warning tells how many pairs could not be judged; empty if all could.
func (p present) warning() []string {
	n := p.skips.Count()
	if n == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%d pairs of vulnerability and package could not be judged, such as %s", n, p.skips.reasons()[0])}
}

func (p present) extensions() schemas.Extensions {
	var x schemas.Extensions
	if p.top < 0 {
		return x
	}
	rank := int32(p.top)
	x.Severity, x.SeverityRank = &schemas.SeverityNames[p.top], &rank
	x.Fixable, x.KEV, x.EPSS = &p.fixable, &p.kev, p.epss
	return x
}

const (
	selectHeldOccurrences = `
SELECT DISTINCT o.id FROM tocsin.inventory i CROSS JOIN LATERAL unnest(i.occurrences) AS o (id)
WHERE i.current AND i.manifest_id = ANY(@manifests) ORDER BY o.id`

	countHeld = ratedPairs + `
SELECT i.manifest_id, f.rank, count(*)::integer
FROM tocsin.inventory i
CROSS JOIN LATERAL unnest(i.occurrences) AS o (id)
JOIN finding f ON f.occurrence = o.id
WHERE i.current AND i.manifest_id = ANY(@manifests)
GROUP BY i.manifest_id, f.rank`
)

// Counts counts the findings that manifests have now, as of the updates that have
// been announced. A manifest that holds nothing, or is not indexed, is absent.
// What manifests share is judged once; still, ask for a page of them, not for
// all.
func (e *Engine) Counts(ctx context.Context, manifests []int32) (map[int32]schemas.BySeverity, error) {
	var out map[int32]schemas.BySeverity
	err := e.prepared(ctx, func() (err error) {
		out, err = e.countHeld(ctx, manifests)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("count findings: %w", err)
	}
	return out, nil
}

func (e *Engine) countHeld(ctx context.Context, manifests []int32) (map[int32]schemas.BySeverity, error) {
	out := make(map[int32]schemas.BySeverity)
	opts := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err := pgx.BeginTxFunc(ctx, e.pool, opts, func(tx pgx.Tx) error {
		if err := e.checkMatchers(ctx, tx); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, selectHeldOccurrences, pgx.NamedArgs{"manifests": manifests})
		if err != nil {
			return err
		}
		held, err := pgx.CollectRows(rows, pgx.RowTo[int32])
		if err != nil {
			return err
		}
		_, skips := CollectSkips(ctx)
		cs, err := e.presentPairs(ctx, tx, held, skips)
		if err != nil {
			return err
		}
		vulns, occurrences := split(cs)
		ops, err := enrichmentOps(ctx, tx)
		if err != nil {
			return err
		}
		rows, err = tx.Query(ctx, countHeld, pgx.NamedArgs{
			"vulns": vulns, "occurrences": occurrences, "manifests": manifests, "ops": ops.all(),
		})
		if err != nil {
			return err
		}
		var id int32
		var rank, n int
		_, err = pgx.ForEachRow(rows, []any{&id, &rank, &n}, func() error {
			c := out[id]
			c.Add(rank, n)
			out[id] = c
			return nil
		})
		return err
	})
	return out, err
}

// split returns the two columns of pairs.
func split(cs []candidate) (vulns []int64, occurrences []int32) {
	vulns, occurrences = make([]int64, len(cs)), make([]int32, len(cs))
	for i, c := range cs {
		vulns[i], occurrences[i] = c.vuln, c.occurrence
	}
	return vulns, occurrences
}
