package matcher

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/schemas"
)

// enrichments are the update operations that what is known of CVEs is read
// from, by enricher.
type enrichments map[string]int64

func (o enrichments) all() []int64 {
	return slices.AppendSeq(make([]int64, 0, len(o)), maps.Values(o))
}

// with returns o with an updater at another operation; 0 is none.
func (o enrichments) with(updater string, op int64) enrichments {
	c := maps.Clone(o)
	c[updater] = op
	return c
}

const readEnrichmentOps = `SELECT updater, op_id FROM tocsin.enrichment_cursor`

// enrichmentOps are the operations as of the cursors.
func enrichmentOps(ctx context.Context, tx pgx.Tx) (enrichments, error) {
	rows, err := tx.Query(ctx, readEnrichmentOps)
	if err != nil {
		return nil, err
	}
	out := make(enrichments)
	var updater string
	var op int64
	_, err = pgx.ForEachRow(rows, []any{&updater, &op}, func() error {
		out[updater] = op
		return nil
	})
	return out, err
}

const (
	// countRecords counts the CVE ids that an operation has a record of and the
	// other has not.
	countRecords = `
WITH was AS (SELECT DISTINCT unnest(e.tags) AS cve FROM public.uo_enrich u JOIN public.enrichment e ON e.id = u.enrich WHERE u.uo = @prev),
     now AS (SELECT DISTINCT unnest(e.tags) AS cve FROM public.uo_enrich u JOIN public.enrichment e ON e.id = u.enrich WHERE u.uo = @cur)
SELECT count(*) FILTER (WHERE was.cve IS NULL), count(*) FILTER (WHERE now.cve IS NULL)
FROM was FULL JOIN now USING (cve)`

	// insertListed finds the CVEs that entered or left the list.
	insertListed = `
WITH was AS (SELECT DISTINCT unnest(e.tags) AS cve FROM public.uo_enrich u JOIN public.enrichment e ON e.id = u.enrich WHERE u.uo = @prev),
     now AS (SELECT DISTINCT unnest(e.tags) AS cve FROM public.uo_enrich u JOIN public.enrichment e ON e.id = u.enrich WHERE u.uo = @cur)
INSERT INTO crossing (cve)
SELECT cve FROM was FULL JOIN now USING (cve) WHERE was.cve IS NULL OR now.cve IS NULL`

	// insertCrossed finds the CVEs whose score crossed the threshold, either
	// way; one without a score is below it.
	insertCrossed = `
WITH was AS (SELECT DISTINCT unnest(e.tags) AS cve FROM public.uo_enrich u JOIN public.enrichment e ON e.id = u.enrich
             WHERE u.uo = @prev AND (e.data->>'epss')::float8 >= @threshold),
     now AS (SELECT DISTINCT unnest(e.tags) AS cve FROM public.uo_enrich u JOIN public.enrichment e ON e.id = u.enrich
             WHERE u.uo = @cur AND (e.data->>'epss')::float8 >= @threshold)
INSERT INTO crossing (cve)
SELECT cve FROM was FULL JOIN now USING (cve) WHERE was.cve IS NULL OR now.cve IS NULL`

	// insertRescored finds the CVEs of whose CVSS records one has changed.
	insertRescored = `
INSERT INTO crossing (cve)
SELECT DISTINCT unnest(e.tags)
FROM (
  (SELECT enrich FROM public.uo_enrich WHERE uo = @prev EXCEPT SELECT enrich FROM public.uo_enrich WHERE uo = @cur)
  UNION ALL
  (SELECT enrich FROM public.uo_enrich WHERE uo = @cur EXCEPT SELECT enrich FROM public.uo_enrich WHERE uo = @prev)
) d JOIN public.enrichment e ON e.id = d.enrich`

	// considerCrossing finds the rows that speak of those CVEs: first, cheaply,
	// all in which one is mentioned anywhere. Of CVSS, the rows alone count that
	// have no severity of their own.
	considerCrossing = `
INSERT INTO considered (vuln, identity, sig, before, after)
SELECT v.id, dense_rank() OVER (ORDER BY v.updater, v.name), '', true, true
FROM (
  SELECT v.id FROM public.vuln v
  CROSS JOIN LATERAL regexp_matches(v.name || ' ' || v.links, '(cve[-_][0-9]{4}[-_][0-9]{4,})', 'gi') m
  JOIN crossing x ON x.cve = upper(replace(m[1], '_', '-'))
  WHERE NOT @unrated OR tocsin.severity_rank(v.normalized_severity) = 0
  UNION
  SELECT va.vulnerability FROM public.vulnerability_alias va
  JOIN public.alias a ON a.id = va.alias
  JOIN public.alias_namespace n ON n.id = a.namespace
  JOIN crossing x ON x.cve = upper(n.namespace || '-' || a.name)
) c
JOIN public.vuln v ON v.id = c.id AND NOT v.not_vulnerable AND (NOT @unrated OR tocsin.severity_rank(v.normalized_severity) = 0)
WHERE EXISTS (SELECT FROM public.uo_vuln u JOIN tocsin.cursor k ON k.op_id = u.uo WHERE u.vuln = v.id)
  AND EXISTS (SELECT FROM unnest(tocsin.cves(v.name, tocsin.aliases(v.id), v.links)) AS o (cve) JOIN crossing x ON x.cve = o.cve)`

	// insertSiblings adds the other rows of the same advisories, which may speak
	// for them instead.
	insertSiblings = `
INSERT INTO considered (vuln, identity, sig, before, after)
SELECT DISTINCT v.id, c.identity, '', true, true
FROM considered c
JOIN public.vuln w ON w.id = c.vuln
JOIN public.vuln v ON v.name = w.name AND v.updater = w.updater AND NOT v.not_vulnerable
WHERE NOT EXISTS (SELECT FROM considered o WHERE o.vuln = v.id)
  AND EXISTS (SELECT FROM public.uo_vuln u JOIN tocsin.cursor k ON k.op_id = u.uo WHERE u.vuln = v.id)`
)

// enrichmentChange does one step of an enrichment updater. A CVE that enters
// or leaves KEV, one whose EPSS crosses the threshold, and one whose CVSS scores
// give another severity to a finding that has none of its own, revises the
// findings there are; so does the first load.
func (e *Engine) enrichmentChange(ctx context.Context, tx pgx.Tx, s *step) (done schemas.UpdateCompleted, err error) {
	w, err := e.begin(ctx, tx)
	if err != nil {
		return done, err
	}
	done.Update = s.update()
	args := pgx.NamedArgs{"prev": s.prevID(), "cur": s.cur.id}
	if err := tx.QueryRow(ctx, countRecords, args).Scan(&done.Added, &done.Removed); err != nil {
		return done, fmt.Errorf("difference of the operations: %w", err)
	}
	var crossed int64
	switch s.updater {
	case kevName:
		crossed, err = w.exec(ctx, insertListed, args)
	case epssName:
		args["threshold"] = e.opts.EPSSThreshold
		crossed, err = w.exec(ctx, insertCrossed, args)
		done.Revised = int(crossed)
	case cvssName:
		crossed, err = w.exec(ctx, insertRescored, args)
	}
	if err != nil {
		return done, fmt.Errorf("difference of the operations: %w", err)
	}
	if crossed == 0 {
		if _, err := w.exec(ctx, lockBarrier, pgx.NamedArgs{"key": BarrierKey}); err != nil {
			return done, err
		}
		return w.finish(ctx, s, done)
	}
	if _, err := w.exec(ctx, `ANALYZE crossing`, nil); err != nil {
		return done, err
	}
	if _, err := w.exec(ctx, considerCrossing, pgx.NamedArgs{"unrated": s.updater == cvssName}); err != nil {
		return done, fmt.Errorf("vulnerabilities of the CVEs: %w", err)
	}
	if _, err := w.exec(ctx, `ANALYZE considered`, nil); err != nil {
		return done, err
	}
	if _, err := w.exec(ctx, insertSiblings, nil); err != nil {
		return done, fmt.Errorf("rows of the same advisories: %w", err)
	}
	if err := w.judgeUnderBarrier(ctx); err != nil {
		return done, err
	}
	ops, err := enrichmentOps(ctx, tx)
	if err != nil {
		return done, err
	}
	if err := w.compare(ctx, ops.with(s.updater, s.prevID()), ops.with(s.updater, s.cur.id)); err != nil {
		return done, err
	}
	return w.finish(ctx, s, done)
}
