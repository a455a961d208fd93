package matcher

import (
	"context"
	"fmt"
	"maps"

	"github.com/jackc/pgx/v5"
)

// fixedVersion is the fix of vulnerability v as it reads. Most feeds write it so;
// a function that is asked for each of many rows costs more than this test.
const fixedVersion = `CASE WHEN strpos(v.fixed_in_version, '=') = 0 THEN v.fixed_in_version ELSE tocsin.fixed_version(v.fixed_in_version) END`

// insertRated rates the rows in verdict together with the given enrichment
// operations.
const insertRated = `
INSERT INTO rated (vuln, before, after, sig, pref)
SELECT v.id, @before, @after, concat_ws(chr(31), v.severity, r.severity, r.fixed, coalesce(s.kev, false),
    coalesce((s.epss->>'score')::float8 >= @threshold, false)),
  ((5 - tocsin.severity_rank(r.severity)) * 2 + (r.fixed = '')::integer)::bigint << 56 | v.id
FROM (SELECT DISTINCT vuln FROM verdict) d
JOIN public.vuln v ON v.id = d.vuln
LEFT JOIN LATERAL tocsin.enriched(v.id, v.name, v.links, @ops::bigint[]) s ON cardinality(@ops::bigint[]) > 0
CROSS JOIN LATERAL (
  SELECT tocsin.effective_severity(v.normalized_severity, s.rank) AS severity, ` + fixedVersion + ` AS fixed
) r`

// rate fills rated, once if the enrichments are the same before and after.
func (w *work) rate(ctx context.Context, before, after enrichments) error {
	same := maps.Equal(before, after)
	for _, side := range []struct {
		before, after bool
		ops           enrichments
	}{{true, same, before}, {false, true, after}} {
		if same && !side.before {
			continue
		}
		_, err := w.exec(ctx, insertRated, pgx.NamedArgs{
			"before": side.before, "after": side.after, "ops": side.ops.all(), "threshold": w.opts.EPSSThreshold,
		})
		if err != nil {
			return fmt.Errorf("ratings: %w", err)
		}
	}
	_, err := w.exec(ctx, `ANALYZE verdict, rated`, nil)
	return err
}
