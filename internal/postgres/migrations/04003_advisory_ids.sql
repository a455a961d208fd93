-- +goose Up

-- Advisories whose name is a title ("CVE-2024-1 on Ubuntu 22.04 LTS (jammy) - medium", "ELSA-2018-4249: krb5 …") get the
-- id that it begins with for a name, as updates from now on bring them: the same advisory before and after is then one.
-- The other ids of its title, and of one that names no CVE the ids in its links, become aliases.
CREATE TEMP TABLE found_alias ON COMMIT DROP AS
SELECT DISTINCT v.id AS vuln, upper(split_part(m[1], '-', 1)) AS space, substr(m[1], strpos(m[1], '-') + 1) AS name
FROM public.vuln v
CROSS JOIN LATERAL regexp_matches(
  v.name || CASE WHEN v.name !~* 'cve-[0-9]{4}-[0-9]{4,}'
                  AND NOT EXISTS (SELECT FROM public.vulnerability_alias a WHERE a.vulnerability = v.id)
                  AND NOT EXISTS (SELECT FROM public.vulnerability_self s WHERE s.vulnerability = v.id)
            THEN ' ' || coalesce(v.links, '') ELSE '' END,
  '\m(cve-[0-9]{4}-[0-9]{4,}|ghsa(?:-[0-9a-z]{4}){3})\M', 'gi') m
WHERE v.name ~ '\s' OR v.name !~* '^(cve|ghsa)-';

UPDATE public.vuln v SET name = n.id, description = CASE WHEN v.description = '' THEN btrim(v.name, E' \t\r\n') ELSE v.description END
FROM (
  SELECT id AS vuln, substring(btrim(name, E' \t\r\n') FROM '^([A-Za-z][A-Za-z0-9]*(?:[-.:_][A-Za-z0-9.]+)+)[:,;]?(?:\s|$)') AS id
  FROM public.vuln WHERE name ~ '\s'
) n
WHERE v.id = n.vuln AND n.id ~ '[0-9]';

INSERT INTO public.alias_namespace (namespace) SELECT DISTINCT space FROM found_alias ON CONFLICT DO NOTHING;
INSERT INTO public.alias (namespace, name)
SELECT DISTINCT n.id, f.name FROM found_alias f JOIN public.alias_namespace n ON n.namespace = f.space ON CONFLICT DO NOTHING;
INSERT INTO public.vulnerability_alias (vulnerability, alias)
SELECT f.vuln, a.id
FROM found_alias f
JOIN public.vuln v ON v.id = f.vuln AND v.name <> f.space || '-' || f.name
JOIN public.alias_namespace n ON n.namespace = f.space
JOIN public.alias a ON a.namespace = n.id AND a.name = f.name
ON CONFLICT DO NOTHING;
DROP TABLE found_alias;

-- PyPI's names as PEP 503 compares them, by which packages are asked for from now on.
UPDATE public.vuln SET package_name = regexp_replace(lower(package_name), '[-_.]+', '-', 'g')
WHERE repo_name = 'pypi' AND package_name <> regexp_replace(lower(package_name), '[-_.]+', '-', 'g');

-- +goose Down
SELECT 1;
