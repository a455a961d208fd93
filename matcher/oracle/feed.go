package oracle

import (
	"fmt"
	"slices"
	"strings"
	"unique"

	"github.com/quay/claircore"
)

// Update is one update operation as it is written to claircore's store.
type Update struct {
	Updater string
	// Delta updates replace what they name and delete the names in Deleted;
	// others replace everything the updater said before.
	Delta bool
	// Shared rows say nothing of their updater, so that another may have the
	// very same ones: claircore's own store keeps one row of them.
	Shared  bool
	Vulns   []*claircore.Vulnerability
	Deleted []string
	// Story says what happened to the feed, for people.
	Story []string
}

// feed is an updater's advisories as they change over time.
type feed struct {
	updater string
	kinds   []ecosystem
	vulns   []*claircore.Vulnerability
	serial  int
	started bool
	story   []string
	touched map[string]bool
	// anonymous advisories do not say which updater they come from, so that
	// two updaters may write the very same one.
	anonymous bool
}

const advisoryNames = 4

func (f *feed) tell(format string, a ...any) { f.story = append(f.story, fmt.Sprintf(format, a...)) }

func (f *feed) touch(v *claircore.Vulnerability) { f.touched[v.Name] = true }

func (f *feed) describe(v *claircore.Vulnerability) {
	f.serial++
	v.Description = fmt.Sprintf("revision %d", f.serial)
	if !f.anonymous {
		v.Description += " of " + f.updater
	}
}

// alias gives an advisory other aliases: none, one or two of the scenario's CVEs.
func (f *feed) alias(g *gen, v *claircore.Vulnerability) {
	v.Aliases = nil
	for range g.IntN(3) {
		_, number, _ := strings.Cut(g.cve(g.IntN(advisoryNames)), "-")
		if a := (claircore.Alias{Space: unique.Make("CVE"), Name: number}); !slices.Contains(v.Aliases, a) {
			v.Aliases = append(v.Aliases, a)
		}
	}
	// An advisory without any alias would be asked for CVEs in its links.
	v.Self = claircore.Alias{Space: unique.Make("SELF"), Name: v.Name}
}

func (f *feed) add(g *gen) {
	v := pick(g, f.kinds).advise(g)
	v.Updater = f.updater
	v.Name = g.cve(g.IntN(advisoryNames))
	if !f.anonymous && g.chance(3) {
		v.Name = fmt.Sprintf("ADV-%s-%d", g.tag, g.IntN(advisoryNames))
		f.alias(g, &v)
	}
	v.Links = "https://advisories.example/" + v.Name
	r := pick(g, ratings)
	v.Severity, v.NormalizedSeverity = r.raw, r.normalized
	f.describe(&v)
	f.touch(&v)
	f.vulns = append(f.vulns, &v)
	f.tell("add %s", brief(&v))
}

func (f *feed) remove(g *gen) {
	i := g.IntN(len(f.vulns))
	f.touch(f.vulns[i])
	f.tell("remove %s", brief(f.vulns[i]))
	f.vulns = slices.Delete(slices.Clone(f.vulns), i, i+1)
}

// edit changes one advisory in one of the ways feeds do.
func (f *feed) edit(g *gen) {
	i := g.IntN(len(f.vulns))
	v := *f.vulns[i]
	p := *v.Package
	v.Package = &p
	what := pick(g, []string{"severity", "severity", "fix", "fix", "fix", "description", "invert", "rename", "normalization", "normalization", "arch", "alias"})
	switch what {
	case "severity":
		r := pick(g, ratings)
		v.Severity, v.NormalizedSeverity = r.raw, r.normalized
	case "fix":
		// Another advisory of the same kind lends its verdict.
		for range 20 {
			other := pick(g, f.kinds).advise(g)
			if (other.Repo == nil) == (v.Repo == nil) && (other.Range == nil) == (v.Range == nil) {
				v.FixedInVersion, v.Range = other.FixedInVersion, other.Range
				break
			}
		}
	case "description":
		f.describe(&v)
	case "invert":
		v.Invert = !v.Invert
		f.describe(&v)
	case "rename":
		v.Name = g.cve(g.IntN(advisoryNames))
	case "alias":
		// claircore's own store does not tell rows apart by their aliases.
		if !f.anonymous {
			f.alias(g, &v)
		}
	case "normalization":
		v.NormalizedSeverity = pick(g, ratings).normalized
	case "arch":
		if v.Repo == nil || v.Range == nil {
			adviseArch(g, &v, []claircore.ArchOp{claircore.OpPatternMatch, claircore.OpEquals, claircore.OpNotEquals})
		}
	}
	f.touch(f.vulns[i])
	f.touch(&v)
	f.tell("%s: %s becomes %s", what, brief(f.vulns[i]), brief(&v))
	f.vulns = slices.Clone(f.vulns)
	f.vulns[i] = &v
}

// twin adds another row of the same name for another package. Its link stays
// the one that add gave it: in a row without aliases, its CVE's scores count.
func (f *feed) twin(g *gen) {
	old := pick(g, f.vulns)
	f.add(g)
	v := f.vulns[len(f.vulns)-1]
	v.Name = old.Name
	f.touch(v)
}

// copyFrom takes over another updater's advisories word for word.
func (f *feed) copyFrom(g *gen, other *feed) {
	if len(other.vulns) == 0 {
		return
	}
	v := *pick(g, other.vulns)
	v.Updater = f.updater
	f.touch(&v)
	f.vulns = append(f.vulns, &v)
	f.tell("copy %s from %s", brief(&v), other.updater)
}

// next is the feed's next update.
func (f *feed) next(g *gen, others []*feed) *Update {
	f.story, f.touched = nil, map[string]bool{}
	switch {
	case !f.started:
		for range g.between(4, 9) {
			f.add(g)
		}
	case g.chance(12):
		f.tell("say the same again")
	case g.chance(25):
		f.tell("say nothing at all")
		for _, v := range f.vulns {
			f.touch(v)
		}
		f.vulns = nil
	default:
		for range g.between(2, 6) {
			switch {
			case len(f.vulns) == 0 || g.chance(6):
				f.add(g)
			case f.anonymous && g.chance(3):
				f.copyFrom(g, pick(g, others))
			case g.chance(4):
				f.remove(g)
			case g.chance(5):
				f.twin(g)
			default:
				f.edit(g)
			}
		}
	}
	u := &Update{Updater: f.updater, Story: f.story, Delta: f.started && g.chance(3), Shared: f.anonymous}
	f.started = true
	if !u.Delta {
		u.Vulns = f.vulns
		return u
	}
	left := map[string]bool{}
	for _, v := range f.vulns {
		if f.touched[v.Name] {
			left[v.Name] = true
			u.Vulns = append(u.Vulns, v)
		}
	}
	for name := range f.touched {
		if !left[name] {
			u.Deleted = append(u.Deleted, name)
		}
	}
	slices.Sort(u.Deleted)
	return u
}

// brief describes an advisory in a line.
func brief(v *claircore.Vulnerability) string {
	s := fmt.Sprintf("%s[%s %s", v.Name, v.Package.Kind, v.Package.Name)
	if v.Package.Version != "" {
		s += " version " + v.Package.Version
	}
	if v.Package.Module != "" {
		s += " module " + v.Package.Module
	}
	if v.Package.Arch != "" {
		s += fmt.Sprintf(" arch %s %s", v.ArchOperation, v.Package.Arch)
	}
	if v.Dist != nil {
		s += fmt.Sprintf(" in %s %s", v.Dist.DID, v.Dist.VersionID)
	}
	if v.Repo != nil {
		s += " from " + v.Repo.Name
	}
	if v.Range != nil {
		s += fmt.Sprintf(" range [%s,%s)", v.Range.Lower.String(), v.Range.Upper.String())
	}
	if v.FixedInVersion != "" {
		s += " fixed " + v.FixedInVersion
	}
	if v.Invert {
		s += " not affected"
	}
	for _, a := range v.Aliases {
		s += " alias " + a.String()
	}
	return s + fmt.Sprintf(" %s/%s]", v.Severity, v.NormalizedSeverity)
}
