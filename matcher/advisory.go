package matcher

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

const (
	// insertSaid puts into words what the rows of the findings say, together
	// with what the given enrichment operations say of their CVEs. Only what is
	// known of an advisory goes in, so that the same words have the same hash.
	insertSaid = `
INSERT INTO said (vuln, before, hash, content)
SELECT c.vuln, @before, sha256(convert_to(c.content::text, 'UTF8')), c.content
FROM (
  SELECT v.id AS vuln, jsonb_strip_nulls(jsonb_build_object(
    'id', v.name, 'aliases', array_remove(a.aliases, v.name), 'updater', v.updater,
    'severity', v.severity, 'normalized_severity', v.normalized_severity, 'fixed_in_version', v.fixed_in_version,
    'links', array_remove(regexp_split_to_array(v.links, '\s+'), ''), 'description', v.description,
    'issued', CASE WHEN v.issued > '1970-01-01Z' THEN to_char(v.issued AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') END,
    'distribution', jsonb_build_object('did', nullif(v.dist_id, ''), 'name', nullif(v.dist_name, ''), 'version', nullif(v.dist_version, ''),
      'version_id', nullif(v.dist_version_id, ''), 'version_code_name', nullif(v.dist_version_code_name, ''),
      'pretty_name', nullif(v.dist_pretty_name, ''), 'arch', nullif(v.dist_arch, ''), 'cpe', nullif(v.dist_cpe, '')),
    'repository', jsonb_build_object('name', nullif(v.repo_name, ''), 'key', nullif(v.repo_key, ''), 'uri', nullif(v.repo_uri, '')),
    'cvss', s.cvss, 'epss', s.epss, 'kev', coalesce(s.kev, false)
  )) AS content
  FROM (SELECT vuln FROM finding WHERE (kind = 1) = @before UNION SELECT previous FROM finding WHERE @before AND previous IS NOT NULL) w
  JOIN public.vuln v ON v.id = w.vuln
  CROSS JOIN LATERAL (
    SELECT ARRAY(
      SELECT DISTINCT n.namespace || CASE WHEN n.namespace NOT LIKE '%://%' THEN '-' WHEN n.namespace LIKE '%/' THEN '' ELSE '#' END || al.name
      FROM (SELECT va.alias FROM public.vulnerability_alias va WHERE va.vulnerability = v.id
            UNION ALL SELECT vs.self FROM public.vulnerability_self vs WHERE vs.vulnerability = v.id) x
      JOIN public.alias al ON al.id = x.alias
      JOIN public.alias_namespace n ON n.id = al.namespace
      ORDER BY 1) AS aliases
  ) a
  LEFT JOIN LATERAL (
    SELECT bool_or(e.updater = @kev) AS kev,
      (array_agg(jsonb_build_object('score', e.data->'epss', 'percentile', e.data->'percentile', 'date', e.data->'date')
        ORDER BY (e.data->>'epss')::float8 DESC, e.id) FILTER (WHERE e.updater = @epss))[1] AS epss,
      jsonb_agg(DISTINCT jsonb_build_object('version', e.data->'version', 'vector', e.data->'vectorString', 'score', e.data->'baseScore'))
        FILTER (WHERE e.updater = @cvss) AS cvss
    FROM public.enrichment e JOIN public.uo_enrich ue ON ue.enrich = e.id
    WHERE e.tags && tocsin.cves(v.name, a.aliases, v.links) AND ue.uo = ANY(@ops::bigint[])
  ) s ON cardinality(@ops::bigint[]) > 0
) c`

	insertAdvisories = `
INSERT INTO tocsin.advisory (hash, severityrank, fixable, kev, epss, content)
SELECT DISTINCT ON (s.hash) s.hash, tocsin.severity_rank(s.content->>'normalized_severity'), tocsin.fixable(s.content->>'fixed_in_version'),
  (s.content->>'kev')::boolean, ceil(CASE WHEN e.score > 1 THEN 1 WHEN e.score < 0 THEN 0 ELSE e.score END * 100)::smallint, s.content
FROM said s CROSS JOIN LATERAL (SELECT (s.content->'epss'->>'score')::float8 AS score) e
ON CONFLICT (hash) DO NOTHING`

	// insertChangeFindings keeps those findings whose words differ in what a
	// revision is judged by. Enrichments are judged here, vulnerabilities were
	// before.
	insertChangeFindings = `
INSERT INTO tocsin.change_finding (change_id, occurrence_id, kind, advisory_id, previous_advisory_id)
SELECT @change, f.occurrence, f.kind, a.id, b.id
FROM finding f
JOIN said sa ON sa.vuln = f.vuln AND sa.before = (f.kind = 1)
JOIN tocsin.advisory a ON a.hash = sa.hash
LEFT JOIN said sb ON sb.vuln = f.previous AND sb.before
LEFT JOIN tocsin.advisory b ON b.hash = sb.hash
WHERE @kind <> 'enrichment' OR a.kev <> b.kev
  OR coalesce((a.content->'epss'->>'score')::float8 >= @threshold, false) <> coalesce((b.content->'epss'->>'score')::float8 >= @threshold, false)`
)

// say stores what the findings say before and after, each with the enrichments
// of that moment.
func (w *work) say(ctx context.Context, before, after enrichments) error {
	if err := w.sayAll(ctx, before, after); err != nil {
		return err
	}
	if _, err := w.exec(ctx, insertAdvisories, nil); err != nil {
		return fmt.Errorf("advisories: %w", err)
	}
	return nil
}

// sayAll fills said.
func (w *work) sayAll(ctx context.Context, before, after enrichments) error {
	for _, side := range []struct {
		before bool
		ops    enrichments
	}{{true, before}, {false, after}} {
		_, err := w.exec(ctx, insertSaid, pgx.NamedArgs{
			"before": side.before, "ops": side.ops.all(), "kev": kevName, "epss": epssName, "cvss": cvssName,
		})
		if err != nil {
			return fmt.Errorf("what the advisories say: %w", err)
		}
	}
	_, err := w.exec(ctx, `ANALYZE said`, nil)
	return err
}
