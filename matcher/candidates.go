package matcher

import (
	"fmt"
	"strings"
)

// The two places that candidates are looked for from: the rows of a change, or
// the occurrences of one manifest.
const (
	// considered rows against every occurrence, or against those that a
	// snapshot did not see yet.
	fromConsidered = `considered c JOIN public.vuln v ON v.id = c.vuln`
	newOccurrences = ` AND r.occurrence_id IN (SELECT o.id FROM tocsin.occurrence o
      WHERE o.xid >= pg_snapshot_xmin(@snapshot::text::pg_snapshot) AND NOT pg_visible_in_snapshot(o.xid, @snapshot::text::pg_snapshot))`

	// fromCursors is what is known as of the cursors.
	fromCursors = `tocsin.cursor k JOIN public.uo_vuln u ON u.uo = k.op_id JOIN public.vuln v ON v.id = u.vuln AND NOT v.not_vulnerable`
	ofManifest  = ` AND r.occurrence_id = ANY(@occurrences)`
)

// candidatesSQL selects (vuln, occurrence, mask) for every pair whose package
// name and kind agree, by the binary package or by its source, and for which a
// matcher's other constraints hold. One statement serves all matchers.
func (s *matcherSet) candidatesSQL(from, scope string) string {
	var mask strings.Builder
	for i, c := range s.conditions {
		if i > 0 {
			mask.WriteString(" |\n      ")
		}
		fmt.Fprintf(&mask, "CASE WHEN r.matchers & %[1]d <> 0 AND (%[2]s) THEN %[1]d::bigint ELSE 0 END", s.masks[i], c)
	}
	if len(s.conditions) == 0 {
		mask.WriteString("0::bigint")
	}
	arm := func(join string) string {
		return fmt.Sprintf(`
    SELECT v.id AS vuln, r.occurrence_id AS occurrence,
      %s AS mask
    FROM %s
    JOIN tocsin.occurrence_record r ON %s
    WHERE r.matchers <> 0%s`, mask.String(), from, join, scope)
	}
	return `
SELECT p.vuln, p.occurrence, bit_or(p.mask) AS mask FROM (` +
		arm(`r.name = v.package_name AND r.kind = v.package_kind`) + `
    UNION ALL` +
		arm(`r.source_name <> '' AND r.source_name = v.package_name AND r.source_kind = v.package_kind`) + `
  ) p
WHERE p.mask <> 0
GROUP BY p.vuln, p.occurrence`
}
