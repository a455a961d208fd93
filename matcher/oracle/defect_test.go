package oracle

import (
	"testing"

	"tocsin.dev/tocsin/internal/postgres/postgrestest"
)

// defects are what earlier implementations of affected manifests got wrong.
// Each is planted under the engine, in a database that libvuln doesn't scan.
var defects = []struct {
	name string
	sql  string
}{
	{name: "none"},
	{
		name: "range dropped", // every version of a known kind is affected
		sql: `
CREATE FUNCTION public.drop_range() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.vulnerable_range := '(,)';
  RETURN NEW;
END $$;
CREATE TRIGGER defect BEFORE INSERT ON public.vuln FOR EACH ROW EXECUTE FUNCTION public.drop_range()`,
	},
	{
		name: "source name ignored",
		sql: `
CREATE FUNCTION public.drop_source() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.source_name := '';
  RETURN NEW;
END $$;
CREATE TRIGGER defect BEFORE INSERT ON tocsin.occurrence_record FOR EACH ROW EXECUTE FUNCTION public.drop_source()`,
	},
	{
		name: "invert ignored", // "not affected" counts as affected
		sql: `
CREATE FUNCTION public.drop_invert() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.not_vulnerable := false;
  RETURN NEW;
END $$;
CREATE TRIGGER defect BEFORE INSERT ON public.vuln FOR EACH ROW EXECUTE FUNCTION public.drop_invert()`,
	},
	{
		name: "KEV ignored",
		sql: `
CREATE FUNCTION public.drop_kev() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.updater = 'clair.kev' THEN NEW.tags := '{}'; END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER defect BEFORE INSERT ON public.enrichment FOR EACH ROW EXECUTE FUNCTION public.drop_kev()`,
	},
	{
		name: "CVSS scores ignored",
		sql: `
CREATE OR REPLACE FUNCTION tocsin.cvss_rank(version text, score double precision) RETURNS smallint
LANGUAGE sql IMMUTABLE AS $$ SELECT 0::smallint $$`,
	},
	{
		name: "aliases ignored",
		sql: `
CREATE FUNCTION public.drop_alias() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER defect BEFORE INSERT ON public.vulnerability_alias FOR EACH ROW EXECUTE FUNCTION public.drop_alias()`,
	},
	{
		name: "fix as claircore encodes it",
		sql: `
CREATE OR REPLACE FUNCTION tocsin.fixed_version(fixed text) RETURNS text
LANGUAGE sql IMMUTABLE AS $$ SELECT fixed $$`,
	},
	{
		name: "a matcher blinded", // by another process, say
		sql: `
CREATE FUNCTION public.drop_matcher() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.matchers := NEW.matchers & (SELECT ~(1::bigint << bit) FROM tocsin.matcher_bit WHERE name = 'debian-matcher');
  RETURN NEW;
END $$;
CREATE TRIGGER defect BEFORE INSERT ON tocsin.occurrence_record FOR EACH ROW EXECUTE FUNCTION public.drop_matcher()`,
	},
	{
		name: "normalized severity not stored",
		sql: `
CREATE FUNCTION public.drop_severity() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.normalized_severity := coalesce((SELECT v.normalized_severity FROM public.vuln v WHERE v.name = NEW.name AND v.updater = NEW.updater
    AND v.package_name = NEW.package_name AND v.severity = NEW.severity AND v.description = NEW.description LIMIT 1), NEW.normalized_severity);
  RETURN NEW;
END $$;
CREATE TRIGGER defect BEFORE INSERT ON public.vuln FOR EACH ROW EXECUTE FUNCTION public.drop_severity()`,
	},
	{
		name: "superseded unless it is the newest", // by row id: A → B → A is wrong
		sql: `
CREATE OR REPLACE VIEW tocsin.superseded AS SELECT m.id AS manifest_id FROM tocsin.manifest m
WHERE m.named AND EXISTS (SELECT FROM tocsin.manifest o WHERE o.named AND o.id > m.id)`,
	},
	{
		name: "superseded in spite of another name",
		sql: `
CREATE OR REPLACE VIEW tocsin.superseded AS SELECT m.id AS manifest_id FROM tocsin.manifest m
WHERE m.named AND NOT EXISTS (SELECT FROM tocsin.name n WHERE n.manifest_id = m.id AND n.name LIKE '%-0:1')`,
	},
	{
		name: "superseded without ever having had a name",
		sql: `
CREATE OR REPLACE VIEW tocsin.superseded AS SELECT m.id AS manifest_id FROM tocsin.manifest m
WHERE NOT EXISTS (SELECT FROM tocsin.name n WHERE n.manifest_id = m.id)`,
	},
	{
		name: "what a feed speaks of is as of its first load",
		sql: `
CREATE FUNCTION public.keep_scope() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER defect BEFORE UPDATE ON tocsin.feed FOR EACH ROW EXECUTE FUNCTION public.keep_scope()`,
	},
	{
		name: "one package stands for all",
		sql: `
CREATE FUNCTION public.first_alone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.surroundings := NEW.surroundings[1:1];
  RETURN NEW;
END $$;
CREATE TRIGGER defect BEFORE INSERT ON tocsin.inventory_surrounding FOR EACH ROW EXECUTE FUNCTION public.first_alone()`,
	},
}

// TestCatchesPlantedDefects shows that the oracle can fail: an engine with one
// of these defects disagrees with libvuln within a few scenarios, and one
// without does not.
func TestCatchesPlantedDefects(t *testing.T) {
	t.Parallel()
	const within = 56 // four times round all ecosystems
	for _, d := range defects {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			engine := postgrestest.New(t)
			if d.sql != "" {
				if _, err := engine.Exec(ctx, d.sql); err != nil {
					t.Fatal(err)
				}
			}
			w, err := NewSplitSetup(ctx, postgrestest.New(t), engine)
			if err != nil {
				t.Fatal(err)
			}
			for seed := range uint64(within) {
				s := Generate(seed)
				wrong, _, err := w.Play(ctx, s)
				if err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				if len(wrong) == 0 {
					continue
				}
				if d.sql == "" {
					t.Fatalf("nothing was planted, but:\n%s", s.Describe(wrong[0]))
				}
				t.Logf("caught by seed %d:\n%s", seed, s.Describe(wrong[0]))
				return
			}
			if d.sql != "" {
				t.Errorf("not caught within %d scenarios", within)
			}
		})
	}
}
