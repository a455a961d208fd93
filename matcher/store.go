package matcher

import (
	"context"

	"github.com/quay/claircore"
	"github.com/quay/claircore/datastore"
)

// Store mends a defect of claircore's matcher store: its Get forgets what it
// found for a package when the package has several records (repositories,
// distributions) whose queries differ, in the order of a map. The returned
// store asks the inner one so that no call has two queries for one package, and
// returns the union. A missing source package, distribution or repository
// counts as an empty one instead of a nil pointer.
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
		for pkg, vulns := range found {
			for _, v := range vulns {
				if k := [2]string{pkg, v.ID}; !seen[k] {
					seen[k] = true
					out[pkg] = append(out[pkg], v)
				}
			}
		}
	}
	return out, nil
}

// whole returns a record none of whose parts is nil, for building a query.
func whole(r *claircore.IndexRecord) *claircore.IndexRecord {
	if r.Package.Source != nil && r.Distribution != nil && r.Repository != nil {
		return r
	}
	w := *r
	if w.Package.Source == nil {
		p := *w.Package
		p.Source = &claircore.Package{}
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
