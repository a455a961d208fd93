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
	// recordsOf lists the CVE ids that an operation has a record of.
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

	// considerCrossing finds the rows that speak of those CVEs: first, cheaply,
	// all in which one is mentioned anywhere.
	considerCrossing = `
INSERT INTO considered (vuln, identity, sig, pref, before, after)
SELECT v.id, dense_rank() OVER (ORDER BY v.updater, v.name), '',
  ((5 - tocsin.severity_rank(v.normalized_severity)) * 2 + (v.fixed_in_version = '')::integer)::bigint << 56 | v.id, true, true
FROM (
  SELECT v.id FROM public.vuln v
  CROSS JOIN LATERAL regexp_matches(v.name || ' ' || v.links, '(cve[-_][0-9]{4}[-_][0-9]{4,})', 'gi') m
  JOIN crossing x ON x.cve = upper(replace(m[1], '_', '-'))
  UNION
  SELECT va.vulnerability FROM public.vulnerability_alias va
  JOIN public.alias a ON a.id = va.alias
  JOIN public.alias_namespace n ON n.id = a.namespace
  JOIN crossing x ON x.cve = upper(n.namespace || '-' || a.name)
) c
JOIN public.vuln v ON v.id = c.id AND NOT v.not_vulnerable
WHERE EXISTS (SELECT FROM public.uo_vuln u JOIN tocsin.cursor k ON k.op_id = u.uo WHERE u.vuln = v.id)
  AND tocsin.cves(v.name, tocsin.aliases(v.id), v.links) && (SELECT array_agg(cve) FROM crossing)`

	insertEnriched = `
INSERT INTO finding (occurrence, kind, vuln, previous)
SELECT d.occurrence, 2, min(c.pref) & ((1::bigint << 56) - 1), min(c.pref) & ((1::bigint << 56) - 1)
FROM verdict d JOIN considered c ON c.vuln = d.vuln
GROUP BY c.identity, d.occurrence`
)

// enrichmentChange does one step of an enrichment updater. A CVE that enters
// or leaves KEV, and one whose EPSS crosses the threshold, revises the findings
// there are. The first load is silent: it is what later ones are held against.
// CVSS scores are never news by themselves.
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
	if s.prev != nil {
		switch s.updater {
		case kevName:
			crossed, err = w.exec(ctx, insertListed, args)
		case epssName:
			args["threshold"] = e.opts.EPSSThreshold
			crossed, err = w.exec(ctx, insertCrossed, args)
			done.Revised = int(crossed)
		}
		if err != nil {
			return done, fmt.Errorf("difference of the operations: %w", err)
		}
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
	if _, err := w.exec(ctx, considerCrossing, nil); err != nil {
		return done, fmt.Errorf("vulnerabilities of the CVEs: %w", err)
	}
	if _, err := w.exec(ctx, `ANALYZE considered`, nil); err != nil {
		return done, err
	}
	if err := w.judgeUnderBarrier(ctx); err != nil {
		return done, err
	}
	if _, err := w.exec(ctx, insertEnriched, nil); err != nil {
		return done, fmt.Errorf("findings: %w", err)
	}
	ops, err := enrichmentOps(ctx, tx)
	if err != nil {
		return done, err
	}
	if err := w.say(ctx, ops.with(s.updater, s.prevID()), ops.with(s.updater, s.cur.id)); err != nil {
		return done, err
	}
	return w.finish(ctx, s, done)
}
