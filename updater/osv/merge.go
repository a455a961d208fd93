package osv

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
)

// merge makes one vulnerability of the advisories that are one by their ids and
// aliases: the others' ids become aliases, and all have one name. Advisories
// that speak of different CVEs stay apart, although a third one may list both.
func merge(advisories []*advisory) {
	g := &groups{parent: make([]int, len(advisories)), cves: make([]string, len(advisories))}
	known := make(map[string][]int) // by id or alias
	for i, a := range advisories {
		g.parent[i] = i
		g.cves[i] = a.cves()
		for _, id := range append([]string{a.ID}, a.Aliases...) {
			if !cveID.MatchString(id) || strings.Count(g.cves[i], " ") == 0 {
				known[id] = append(known[id], i)
			}
		}
	}
	// What names a CVE groups first; what names none joins the first group that
	// it shares an id with.
	order := make([]int, len(advisories))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int {
		return cmp.Or(-cmp.Compare(min(len(g.cves[i]), 1), min(len(g.cves[j]), 1)), strings.Compare(advisories[i].ID, advisories[j].ID))
	})
	for _, i := range order {
		a := advisories[i]
		for _, id := range append([]string{a.ID}, a.Aliases...) {
			for _, j := range known[id] {
				g.join(i, j)
			}
		}
	}
	members := make(map[int][]*advisory)
	for i, a := range advisories {
		members[g.find(i)] = append(members[g.find(i)], a)
	}
	for _, group := range members {
		if len(group) > 1 {
			unite(group)
		}
	}
}

// unite names a group after the member that is best known, and gives each
// member the ids of all.
func unite(group []*advisory) {
	slices.SortFunc(group, func(a, b *advisory) int {
		return cmp.Or(cmp.Compare(rank(a.ID), rank(b.ID)), strings.Compare(a.ID, b.ID))
	})
	var all []string
	for _, a := range group {
		all = append(append(all, a.ID), a.Aliases...)
	}
	for _, a := range group {
		a.name, a.also = group[0].ID, all
	}
}

// rank orders publishers: GitHub's reviewed advisories have severities, the
// language's own databases seldom do.
func rank(id string) int {
	switch space, _, _ := strings.Cut(id, "-"); space {
	case "GHSA":
		return 0
	case "GO", "PYSEC", "RUBYSEC":
		return 1
	}
	return 2
}

var cveID = regexp.MustCompile(`^CVE-[0-9]{4}-[0-9]{4,}$`)

// cves are the CVE ids that the advisory speaks of, sorted, in one text.
func (a *advisory) cves() string {
	var out []string
	for _, id := range append([]string{a.ID}, a.Aliases...) {
		if cveID.MatchString(id) {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return strings.Join(slices.Compact(out), " ")
}

// groups are sets of advisories, with the CVEs that all of a set's members which
// name any speak of.
type groups struct {
	parent []int
	cves   []string
}

func (g *groups) find(i int) int {
	for g.parent[i] != i {
		g.parent[i] = g.parent[g.parent[i]]
		i = g.parent[i]
	}
	return i
}

// join unites two sets unless they speak of different CVEs.
func (g *groups) join(i, j int) {
	i, j = g.find(i), g.find(j)
	if i == j || g.cves[i] != "" && g.cves[j] != "" && g.cves[i] != g.cves[j] {
		return
	}
	g.parent[j] = i
	g.cves[i] = cmp.Or(g.cves[i], g.cves[j])
}
