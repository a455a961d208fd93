-- +goose Up

-- The version with the fix as it reads: some feeds hold a query string there ("fixed=3.9.2&introduced=1.0.5").
-- +goose StatementBegin
CREATE FUNCTION tocsin.fixed_version(fixed text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN fixed !~ '(^|&)(introduced|fixed|lastAffected)=' THEN fixed
    ELSE coalesce((
      SELECT string_agg(CASE WHEN length(m[1]) = 3 THEN chr(get_byte(decode(substr(m[1], 2), 'hex'), 0)) ELSE m[1] END, '' ORDER BY n)
      FROM regexp_matches(replace(substring(fixed FROM '(?:^|&)fixed=([^&]*)'), '+', ' '), '(%(?!00)[0-7][0-9A-Fa-f]|.)', 'g') WITH ORDINALITY AS t (m, n)
    ), '') END
$$;
-- +goose StatementEnd

-- Whether a version has the fix. Debian and Alpine write 0 for a package that was never affected.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION tocsin.fixable(fixed text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT tocsin.fixed_version(fixed) NOT IN ('', '0')
$$;
-- +goose StatementEnd

-- The CVE ids a vulnerability speaks of: those in its name and aliases. Links count for advisories without any alias
-- alone: those of an advisory that says what else it is called may be about another product's.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION tocsin.cves(name text, aliases text[], links text) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT coalesce(array_agg(DISTINCT upper(replace(m[1], '_', '-'))), '{}')
  FROM (SELECT name || ' ' || array_to_string(aliases, ' ') AS own) o,
       regexp_matches(CASE WHEN own ~* 'cve[-_][0-9]{4}[-_][0-9]{4,}' OR cardinality(aliases) > 0 THEN own ELSE links END,
                      '(cve[-_][0-9]{4}[-_][0-9]{4,})', 'gi') m
$$;
-- +goose StatementEnd

-- The severity that a CVSS base score amounts to, as tocsin.severity_rank counts.
-- +goose StatementBegin
CREATE FUNCTION tocsin.cvss_rank(version text, score double precision) RETURNS smallint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN score >= 9 AND version NOT LIKE '2%' THEN 5 WHEN score >= 7 THEN 4 WHEN score >= 4 THEN 3 WHEN score > 0 THEN 2 ELSE 1 END::smallint
$$;
-- +goose StatementEnd

-- What enrichments say of the CVEs of a vulnerability, as of the given operations: whether one is in KEV, the highest
-- EPSS score, all CVSS scores and the highest severity that they amount to (CVSS 2 counts where there is nothing newer).
-- Reports, changes and indexed events all ask this.
-- +goose StatementBegin
CREATE FUNCTION tocsin.enriched(vuln bigint, name text, links text, ops bigint[])
RETURNS TABLE (kev boolean, epss jsonb, cvss jsonb, rank smallint)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT bool_or(e.updater = 'clair.kev'),
    (array_agg(jsonb_build_object('score', e.data->'epss', 'percentile', e.data->'percentile', 'date', e.data->'date')
      ORDER BY (e.data->>'epss')::float8 DESC, e.id) FILTER (WHERE e.updater = 'clair.epss'))[1],
    jsonb_agg(DISTINCT jsonb_build_object('version', e.data->'version', 'vector', e.data->'vectorString', 'score', e.data->'baseScore'))
      FILTER (WHERE e.updater = 'clair.cvss'),
    coalesce(max(tocsin.cvss_rank(e.data->>'version', (e.data->>'baseScore')::float8)) FILTER (WHERE e.updater = 'clair.cvss' AND e.data->>'version' NOT LIKE '2%'),
      max(tocsin.cvss_rank(e.data->>'version', (e.data->>'baseScore')::float8)) FILTER (WHERE e.updater = 'clair.cvss'))
  FROM public.enrichment e JOIN public.uo_enrich u ON u.enrich = e.id
  WHERE e.tags && tocsin.cves(name, tocsin.aliases(vuln), links) AND u.uo = ANY(ops)
$$;
-- +goose StatementEnd

-- The severity that counts: the publisher's, else that of the CVSS scores of its CVEs.
-- +goose StatementBegin
CREATE FUNCTION tocsin.effective_severity(normalized text, rank smallint) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN tocsin.severity_rank(normalized) > 0 THEN normalized
    ELSE coalesce((ARRAY['Unknown', 'Negligible', 'Low', 'Medium', 'High', 'Critical'])[rank + 1], 'Unknown') END
$$;
-- +goose StatementEnd

-- Where that severity is from: "feed", the publisher; "cvss", the advisory's own vector; "enrichment", the CVSS scores of
-- its CVEs; NULL for an unknown one. Red Hat has a rating of its own beside the vector.
-- +goose StatementBegin
CREATE FUNCTION tocsin.severity_source(updater text, severity text, normalized text, rank smallint) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN tocsin.severity_rank(normalized) > 0
      THEN CASE WHEN severity ~ '^(CVSS:|AV:)' AND updater <> 'rhel-vex' THEN 'cvss' ELSE 'feed' END
    WHEN rank IS NOT NULL THEN 'enrichment' END
$$;
-- +goose StatementEnd

-- +goose Down
DROP FUNCTION tocsin.severity_source(text, text, text, smallint);
DROP FUNCTION tocsin.effective_severity(text, smallint);
DROP FUNCTION tocsin.enriched(bigint, text, text, bigint[]);
DROP FUNCTION tocsin.cvss_rank(text, double precision);
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION tocsin.fixable(fixed text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT fixed NOT IN ('', '0') AND (fixed ~ '(^|&)fixed=' OR fixed !~ '(^|&)(introduced|lastAffected)=')
$$;
-- +goose StatementEnd
DROP FUNCTION tocsin.fixed_version(text);
