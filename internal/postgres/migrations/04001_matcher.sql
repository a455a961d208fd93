-- +goose Up

-- One package in one set of (distribution, repository) records, shared by every manifest that has it. body is the
-- canonical form, key its SHA-256. xid is the transaction that made it: a change judges most occurrences before it
-- stops indexing, and recognises by it those that came meanwhile.
CREATE TABLE tocsin.occurrence (
  id   integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  key  bytea NOT NULL UNIQUE CHECK (length(key) = 32),
  body jsonb NOT NULL,
  xid  xid8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX occurrence_xid ON tocsin.occurrence (xid);

-- One record of an occurrence, flat, in the words that claircore's constraints compare. matchers is the mask of the
-- registered matchers whose Filter accepts it; which bit is whose is derived at start and fingerprinted in tocsin.setting.
CREATE TABLE tocsin.occurrence_record (
  occurrence_id          integer NOT NULL REFERENCES tocsin.occurrence (id) ON DELETE CASCADE,
  ordinal                integer NOT NULL,
  matchers               bigint NOT NULL,
  name                   text NOT NULL,
  kind                   text NOT NULL,
  source_name            text NOT NULL,
  source_kind            text NOT NULL,
  module                 text NOT NULL,
  norm_kind              text NOT NULL,
  norm_version           integer[] NOT NULL,
  dist_id                text NOT NULL,
  dist_name              text NOT NULL,
  dist_version           text NOT NULL,
  dist_version_id        text NOT NULL,
  dist_version_code_name text NOT NULL,
  dist_pretty_name       text NOT NULL,
  dist_arch              text NOT NULL,
  repo_name              text NOT NULL,
  repo_key               text NOT NULL,
  PRIMARY KEY (occurrence_id, ordinal)
);
CREATE INDEX occurrence_record_name ON tocsin.occurrence_record (name, kind) WHERE matchers <> 0;
CREATE INDEX occurrence_record_source ON tocsin.occurrence_record (source_name, source_kind)
  WHERE matchers <> 0 AND source_name <> '';

-- What a manifest holds: sorted occurrence ids. All that ever changes is that a current one is retired.
CREATE TABLE tocsin.inventory (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  manifest_id integer NOT NULL REFERENCES tocsin.manifest (id),
  occurrences integer[] NOT NULL,
  current     boolean NOT NULL,
  created_at  timestamptz NOT NULL DEFAULT now(),
  retired_at  timestamptz
);
CREATE UNIQUE INDEX inventory_current ON tocsin.inventory (manifest_id) WHERE current;
CREATE INDEX inventory_retired ON tocsin.inventory (retired_at) WHERE NOT current;
-- Without a pending list, which every one of a change's look-ups would read.
CREATE INDEX inventory_occurrences ON tocsin.inventory USING gin (occurrences) WITH (fastupdate = off) WHERE current;

-- How far every vulnerability updater's operations have been worked through.
CREATE TABLE tocsin.cursor (
  updater text PRIMARY KEY,
  op_id   bigint NOT NULL,
  ref     uuid NOT NULL,
  date    timestamptz NOT NULL
);
CREATE TABLE tocsin.enrichment_cursor (LIKE tocsin.cursor INCLUDING ALL);

-- What a finding says, immutable: content is the finding's JSON without its package, hash the SHA-256 of that.
CREATE TABLE tocsin.advisory (
  id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  hash         bytea NOT NULL UNIQUE,
  severityrank smallint NOT NULL CHECK (severityrank BETWEEN 0 AND 5),
  fixable      boolean NOT NULL,
  kev          boolean NOT NULL,
  epss         smallint CHECK (epss BETWEEN 0 AND 100),
  content      jsonb NOT NULL
);

-- One step of one updater, from previous (NULL on a first load) to ref.
CREATE TABLE tocsin.change (
  id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  kind       text NOT NULL CHECK (kind IN ('vulnerability', 'enrichment')),
  updater    text NOT NULL,
  ref        uuid NOT NULL UNIQUE,
  previous   uuid,
  date       timestamptz NOT NULL,
  first_load boolean NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX change_created_at ON tocsin.change (created_at);

-- The judged findings of a change: kind 0 added, 1 removed, 2 revised. advisory_id is what the finding says after the
-- change, or said last if it was removed; previous_advisory_id what a revised one said before. No foreign keys: rows
-- are written by the hundred thousand by one writer, and deleted with their change.
CREATE TABLE tocsin.change_finding (
  change_id            bigint NOT NULL,
  occurrence_id        integer NOT NULL,
  kind                 smallint NOT NULL CHECK (kind BETWEEN 0 AND 2),
  advisory_id          bigint NOT NULL,
  previous_advisory_id bigint,
  PRIMARY KEY (change_id, occurrence_id, advisory_id)
);

-- 0 Unknown, 1 Negligible, 2 Low, 3 Medium, 4 High, 5 Critical.
-- +goose StatementBegin
CREATE FUNCTION tocsin.severity_rank(normalized text) RETURNS smallint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE normalized WHEN 'Critical' THEN 5 WHEN 'High' THEN 4 WHEN 'Medium' THEN 3
                         WHEN 'Low' THEN 2 WHEN 'Negligible' THEN 1 ELSE 0 END::smallint
$$;
-- +goose StatementEnd

-- Whether fixed_in_version names a version with the fix. Some feeds hold a query string there ("introduced=1&fixed=2").
-- +goose StatementBegin
CREATE FUNCTION tocsin.fixable(fixed text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT fixed NOT IN ('', '0') AND (fixed ~ '(^|&)fixed=' OR fixed !~ '(^|&)(introduced|lastAffected)=')
$$;
-- +goose StatementEnd

-- The CVE ids a vulnerability speaks of: those in its name and aliases or, if there are none, in its links.
-- +goose StatementBegin
CREATE FUNCTION tocsin.cves(name text, aliases text[], links text) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT coalesce(array_agg(DISTINCT upper(replace(m[1], '_', '-'))), '{}')
  FROM (SELECT name || ' ' || array_to_string(aliases, ' ') AS own) o,
       regexp_matches(CASE WHEN own ~* 'cve[-_][0-9]{4}[-_][0-9]{4,}' THEN own ELSE links END,
                      '(cve[-_][0-9]{4}[-_][0-9]{4,})', 'gi') m
$$;
-- +goose StatementEnd

-- The aliases of a vulnerability, its own identity among them, as people write them.
-- +goose StatementBegin
CREATE FUNCTION tocsin.aliases(vuln bigint) RETURNS text[]
LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT coalesce(array_agg(DISTINCT full_name ORDER BY full_name), '{}')
  FROM (
    SELECT n.namespace || CASE WHEN n.namespace NOT LIKE '%://%' THEN '-' WHEN n.namespace LIKE '%/' THEN '' ELSE '#' END || a.name AS full_name
    FROM (SELECT va.alias FROM public.vulnerability_alias va WHERE va.vulnerability = vuln
          UNION SELECT vs.self FROM public.vulnerability_self vs WHERE vs.vulnerability = vuln) x
    JOIN public.alias a ON a.id = x.alias
    JOIN public.alias_namespace n ON n.id = a.namespace
  ) f
$$;
-- +goose StatementEnd

-- claircore finds vulnerabilities by package only; these serve questions by name and by alias.
CREATE INDEX tocsin_vuln_name ON public.vuln (name text_pattern_ops);
CREATE INDEX tocsin_vulnerability_alias ON public.vulnerability_alias (alias);

-- +goose Down
DROP INDEX public.tocsin_vulnerability_alias;
DROP INDEX public.tocsin_vuln_name;
DROP FUNCTION tocsin.aliases(bigint);
DROP FUNCTION tocsin.cves(text, text[], text);
DROP FUNCTION tocsin.fixable(text);
DROP FUNCTION tocsin.severity_rank(text);
DROP TABLE tocsin.change_finding;
DROP TABLE tocsin.change;
DROP TABLE tocsin.advisory;
DROP TABLE tocsin.enrichment_cursor;
DROP TABLE tocsin.cursor;
DROP TABLE tocsin.inventory;
DROP TABLE tocsin.occurrence_record;
DROP TABLE tocsin.occurrence;
