package oracle

import (
	"fmt"
	"strings"

	"github.com/quay/claircore"

	"tocsin.dev/tocsin/schemas"
)

// Mismatch is one thing that the engine said and libvuln did not, or the other
// way round.
type Mismatch struct {
	Seed uint64
	// Step is the position of the update or index in the scenario's steps.
	Step   int
	Digest string
	Text   string
}

// disagree describes how what events say differs from what libvuln says: other
// findings, or a verdict libvuln doesn't know. Of several verdicts the worst
// must speak, if worst is true. It is empty if they agree.
func disagree(want, got Findings, worst bool) string {
	missing, extra, other, milder := Findings{}, Findings{}, Findings{}, Findings{}
	for id, vs := range want {
		if _, ok := got[id]; !ok {
			missing[id] = vs
		}
	}
	for id, vs := range got {
		known, ok := want[id]
		if !ok {
			extra[id] = vs
			continue
		}
		for v := range vs {
			if !known[v] {
				other.add(id, v)
			} else if worst && !worstOf(known, v) {
				milder.add(id, v)
			}
		}
	}
	var b strings.Builder
	for _, part := range []struct {
		what string
		f    Findings
	}{{"libvuln says, events don't", missing}, {"events say, libvuln doesn't", extra}, {"events say with a verdict libvuln doesn't", other}, {"events say with a verdict that isn't the worst", milder}} {
		if len(part.f) > 0 {
			fmt.Fprintf(&b, "    %s:\n%s", part.what, part.f)
		}
	}
	return b.String()
}

// worstOf says whether no other verdict is more severe or, as severe, has a fix
// where this one has none.
func worstOf(known map[Verdict]bool, v Verdict) bool {
	rank := schemas.SeverityRank(v.Normalized)
	for k := range known {
		r := schemas.SeverityRank(k.Normalized)
		if r > rank || r == rank && v.FixedIn == "" && k.FixedIn != "" {
			return false
		}
	}
	return true
}

// Describe tells a mismatch to people, with the scenario's steps up to it.
func (s *Scenario) Describe(m Mismatch) string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d (%s)\n", s.Seed, strings.Join(s.Ecosystems, ", "))
	reports := map[string]*claircore.IndexReport{}
	for i, step := range s.Steps {
		if m.Step >= 0 && i > m.Step {
			break
		}
		switch {
		case step.Index != nil:
			r := s.Reports[*step.Index]
			meanwhile := ""
			if step.Process {
				meanwhile = " while the engine catches up"
			}
			fmt.Fprintf(&b, "  step %d: index %s%s\n", i, r.Hash, meanwhile)
			reports[r.Hash.String()] = r
		case step.Update != nil:
			kind := "full"
			if step.Update.Delta {
				kind = "delta"
			}
			fmt.Fprintf(&b, "  step %d: %s update by %s\n", i, kind, step.Update.Updater)
			for _, line := range step.Update.Story {
				fmt.Fprintf(&b, "    %s\n", line)
			}
		case step.Name != nil:
			fmt.Fprintf(&b, "  step %d: %s is %s from now on\n", i, step.Name.Name, s.Reports[step.Name.Report].Hash)
		case step.Enrich != nil:
			fmt.Fprintf(&b, "  step %d: enrichment %s\n", i, step.Enrich)
		default:
			fmt.Fprintf(&b, "  step %d: the engine catches up\n", i)
		}
	}
	if r := reports[m.Digest]; r != nil {
		fmt.Fprintf(&b, "  packages of %s:\n%s", m.Digest, contents(r))
	}
	fmt.Fprintf(&b, "  step %d, %s: %s", m.Step, m.Digest, m.Text)
	return b.String()
}
