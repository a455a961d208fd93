package matcher

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

const (
	// insertContent makes JSON of what the rows of the findings say, together
	// with what the given enrichment operations say of their CVEs. Only what is
	// known of an advisory goes in, so that the same content has the same hash.
	insertContent = `
INSERT INTO content (vuln, before, hash, body)
SELECT c.vuln, @before, sha256(convert_to(c.body::text, 'UTF8')), c.body
FROM (
  SELECT v.id AS vuln, jsonb_strip_nulls(jsonb_build_object(
    'id', v.name, 'aliases', array_remove(a.aliases, v.name), 'updater', v.updater,
    'severity', v.severity, 'normalized_severity', tocsin.effective_severity(v.normalized_severity, s.rank),
    'severity_source', tocsin.severity_source(v.updater, v.severity, v.normalized_severity, s.rank),
    'fixed_in_version', ` + fixedVersion + `,
    'links', array_remove(regexp_split_to_array(v.links, '\s+'), ''), 'description', v.description,
    'issued', CASE WHEN v.issued > '1970-01-01Z' THEN to_char(v.issued AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') END,
    'distribution', jsonb_build_object('did', nullif(v.dist_id, ''), 'name', nullif(v.dist_name, ''), 'version', nullif(v.dist_version, ''),
      'version_id', nullif(v.dist_version_id, ''), 'version_code_name', nullif(v.dist_version_code_name, ''),
      'pretty_name', nullif(v.dist_pretty_name, ''), 'arch', nullif(v.dist_arch, ''), 'cpe', nullif(v.dist_cpe, '')),
    'repository', jsonb_build_object('name', nullif(v.repo_name, ''), 'key', nullif(v.repo_key, ''), 'uri', nullif(v.repo_uri, '')),
    'cvss', s.cvss, 'epss', s.epss, 'kev', coalesce(s.kev, false)
  )) AS body
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
  LEFT JOIN LATERAL tocsin.enriched(v.id, v.name, v.links, @ops::bigint[]) s ON cardinality(@ops::bigint[]) > 0
) c`

	insertAdvisories = `
INSERT INTO tocsin.advisory (hash, severityrank, fixable, kev, epss, content)
SELECT DISTINCT ON (s.hash) s.hash, tocsin.severity_rank(s.body->>'normalized_severity'), s.body->>'fixed_in_version' NOT IN ('', '0'),
  (s.body->>'kev')::boolean, ceil(CASE WHEN e.score > 1 THEN 1 WHEN e.score < 0 THEN 0 ELSE e.score END * 100)::smallint, s.body
FROM content s CROSS JOIN LATERAL (SELECT (s.body->'epss'->>'score')::float8 AS score) e
ON CONFLICT (hash) DO NOTHING`

	insertChangeFindings = `
INSERT INTO tocsin.change_finding (change_id, occurrence_id, kind, advisory_id, previous_advisory_id)
SELECT @change, f.occurrence, f.kind, a.id, b.id
FROM finding f
JOIN content ca ON ca.vuln = f.vuln AND ca.before = (f.kind = 1)
JOIN tocsin.advisory a ON a.hash = ca.hash
LEFT JOIN content cb ON cb.vuln = f.previous AND cb.before
LEFT JOIN tocsin.advisory b ON b.hash = cb.hash`
)

// describe fills content: what the findings say before and after, each with the
// enrichments of that moment.
func (w *work) describe(ctx context.Context, before, after enrichments) error {
	for _, side := range []struct {
		before bool
		ops    enrichments
	}{{true, before}, {false, after}} {
		if _, err := w.exec(ctx, insertContent, pgx.NamedArgs{"before": side.before, "ops": side.ops.all()}); err != nil {
			return fmt.Errorf("content of the findings: %w", err)
		}
	}
	_, err := w.exec(ctx, `ANALYZE content`, nil)
	return err
}
