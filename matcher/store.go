package matcher

import (
	"context"
	"slices"
	"strings"

	"github.com/quay/claircore"
	"github.com/quay/claircore/datastore"

	"tocsin.dev/tocsin/internal/osvrange"
)

// Store mends claircore's matcher store. Its Get forgets what it found for a
// package when the package has several records (repositories, distributions)
// whose queries differ, in the order of a map: the returned store asks the inner
// one so that no call has two queries for one package, and returns the union. A
// missing source package, distribution or repository counts as an empty one
// instead of a nil pointer. A vulnerability has its aliases for every package
// that has it, not for one alone. Python's packages are asked for by their normalized
// names, and rows with exact bounds are found whatever their numbers are, for
// the matchers of this package to judge.
func Store(inner datastore.MatcherStore) datastore.MatcherStore {
	return &unionStore{inner}
}

type unionStore struct{ datastore.MatcherStore }

// Get implements datastore.Vulnerability.
func (s *unionStore) Get(ctx context.Context, records []*claircore.IndexRecord, opts datastore.GetOpts) (map[string][]*claircore.Vulnerability, error) {
	var rounds [][]*claircore.IndexRecord
	nth := make(map[string]int)
	for _, r := range records {
		n := nth[r.Package.ID]
		nth[r.Package.ID]++
		if n == len(rounds) {
			rounds = append(rounds, nil)
		}
		rounds[n] = append(rounds[n], whole(r))
	}
	out := make(map[string][]*claircore.Vulnerability)
	seen := make(map[[2]string]bool)
	for _, round := range rounds {
		found, err := s.MatcherStore.Get(ctx, round, opts)
		if err != nil {
			return nil, err
		}
		keep := func(found map[string][]*claircore.Vulnerability, wanted func(*claircore.Vulnerability) bool) {
			for pkg, vulns := range found {
				for _, v := range vulns {
					if k := [2]string{pkg, v.ID}; !seen[k] && wanted(v) {
						seen[k] = true
						out[pkg] = append(out[pkg], v)
					}
				}
			}
		}
		keep(found, func(*claircore.Vulnerability) bool { return true })
		if !opts.VersionFiltering {
			continue
		}
		round = slices.DeleteFunc(round, func(r *claircore.IndexRecord) bool { return !exactRepository(r.Repository) })
		if len(round) == 0 {
			continue
		}
		unfiltered := opts
		unfiltered.VersionFiltering = false
		if found, err = s.MatcherStore.Get(ctx, round, unfiltered); err != nil {
			return nil, err
		}
		keep(found, func(v *claircore.Vulnerability) bool { return strings.HasPrefix(v.Package.Version, osvrange.Prefix) })
	}
	shareAliases(out)
	return out, nil
}

// shareAliases gives every copy of a vulnerability its aliases: claircore's store
// gives them to one, when several packages have it.
func shareAliases(found map[string][]*claircore.Vulnerability) {
	named := make(map[string]*claircore.Vulnerability)
	for _, vulns := range found {
		for _, v := range vulns {
			if len(v.Aliases) > 0 || v.Self.Valid() {
				named[v.ID] = v
			}
		}
	}
	for _, vulns := range found {
		for _, v := range vulns {
			if n := named[v.ID]; n != nil {
				v.Aliases, v.Self = n.Aliases, n.Self
			}
		}
	}
}

// whole returns a record for building a query: none of its parts is nil, and
// its package has the name that advisories are asked by.
func whole(r *claircore.IndexRecord) *claircore.IndexRecord {
	name := matchName(r)
	if r.Package.Source != nil && r.Distribution != nil && r.Repository != nil && r.Package.Name == name {
		return r
	}
	w := *r
	if w.Package.Source == nil || w.Package.Name != name {
		p := *w.Package
		p.Name = name
		if p.Source == nil {
			p.Source = &claircore.Package{}
		}
		w.Package = &p
	}
	if w.Distribution == nil {
		w.Distribution = &claircore.Distribution{}
	}
	if w.Repository == nil {
		w.Repository = &claircore.Repository{}
	}
	return &w
}
