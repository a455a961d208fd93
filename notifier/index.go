package notifier

import (
	"context"
	"iter"
	"slices"

	"github.com/google/uuid"

	"tocsin.dev/tocsin/notifier/filter"
)

// index finds the subscribers that an event may concern, by its type first and
// then by what their filters need at the least, so that few filters are
// evaluated however many subscriptions there are.
type index struct {
	types   map[string]*bucket       // what is delivered one by one
	digests *bucket                  // what is gathered into digests: one subscriber of each group
	groups  map[string][]*subscriber // who shares a digest, by subscriber.digests
}

// bucket holds subscribers, each in one place.
type bucket struct {
	exact  map[string]map[string][]*subscriber // attribute, value
	prefix map[string]*prefixes                // attribute
	rank   [6][]*subscriber                    // least severityrank; 0: none of all this
}

// prefixes holds subscribers by how an attribute must start.
type prefixes struct {
	lengths []int // ascending
	by      map[string][]*subscriber
}

// selective are the attributes by which subscribers are told apart, the ones
// with most values first.
var selective = []string{"subject", "image", "updater", "severity", "id", "source"}

func buildIndex(subs map[uuid.UUID]*subscriber) index {
	x := index{types: map[string]*bucket{}, digests: &bucket{}, groups: map[string][]*subscriber{}}
	ids := make([]uuid.UUID, 0, len(subs))
	for id := range subs {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
	for _, id := range ids {
		s := subs[id]
		if s.set == nil {
			continue
		}
		if s.digests != "" {
			if x.groups[s.digests] == nil && s.digests != everything {
				x.digests.add(s)
			}
			x.groups[s.digests] = append(x.groups[s.digests], s)
		}
		for _, t := range s.types() {
			if x.types[t] == nil {
				x.types[t] = &bucket{}
			}
			x.types[t].add(s)
		}
	}
	return x
}

func (b *bucket) add(s *subscriber) {
	for _, name := range selective {
		if values, ok := s.plan.Exact[name]; ok {
			b.addExact(name, values, s)
			return
		}
		if value, ok := s.plan.Prefix[name]; ok {
			b.addPrefix(name, value, s)
			return
		}
	}
	rank := min(max(s.plan.MinRank, 0), int32(len(b.rank)-1))
	b.rank[rank] = append(b.rank[rank], s)
}

func (b *bucket) addExact(name string, values []string, s *subscriber) {
	if b.exact == nil {
		b.exact = map[string]map[string][]*subscriber{}
	}
	by := b.exact[name]
	if by == nil {
		by = map[string][]*subscriber{}
		b.exact[name] = by
	}
	values = slices.Clone(values)
	slices.Sort(values)
	for _, v := range slices.Compact(values) {
		by[v] = append(by[v], s)
	}
}

func (b *bucket) addPrefix(name, value string, s *subscriber) {
	if b.prefix == nil {
		b.prefix = map[string]*prefixes{}
	}
	p := b.prefix[name]
	if p == nil {
		p = &prefixes{by: map[string][]*subscriber{}}
		b.prefix[name] = p
	}
	if i, ok := slices.BinarySearch(p.lengths, len(value)); !ok {
		p.lengths = slices.Insert(p.lengths, i, len(value))
	}
	p.by[value] = append(p.by[value], s)
}

// candidates are the subscribers in the bucket that the event may concern. A
// nil bucket has none.
func (b *bucket) candidates(e *filter.Event) iter.Seq[*subscriber] {
	return func(yield func(*subscriber) bool) {
		if b == nil {
			return
		}
		all := func(subs []*subscriber) bool {
			for _, s := range subs {
				if s.plan.Allows(e) && !yield(s) {
					return false
				}
			}
			return true
		}
		for name, by := range b.exact {
			if v, ok := e.Text(name); ok && !all(by[v]) {
				return
			}
		}
		for name, p := range b.prefix {
			v, ok := e.Text(name)
			if !ok {
				continue
			}
			for _, n := range p.lengths {
				if n > len(v) {
					break
				}
				if !all(p.by[v[:n]]) {
					return
				}
			}
		}
		rank := int32(0)
		if e.Extensions.SeverityRank != nil {
			rank = min(max(*e.Extensions.SeverityRank, 0), int32(len(b.rank)-1))
		}
		for _, subs := range b.rank[:rank+1] {
			if !all(subs) {
				return
			}
		}
	}
}

// empty says whether nothing can match.
func (b *bucket) empty() bool {
	if b == nil {
		return true
	}
	for _, subs := range b.rank {
		if len(subs) > 0 {
			return false
		}
	}
	return len(b.exact) == 0 && len(b.prefix) == 0
}

// matching are the subscribers that the event is delivered to one by one, as
// far as its attributes say: those whose filters need the data are among them.
func (v *view) matching(ctx context.Context, e *filter.Event) iter.Seq[*subscriber] {
	return matching(ctx, v.index.types[e.Type], e)
}

func matching(ctx context.Context, b *bucket, e *filter.Event) iter.Seq[*subscriber] {
	return func(yield func(*subscriber) bool) {
		for s := range b.candidates(e) {
			if s.set.MatchAttributes(ctx, e) && !yield(s) {
				return
			}
		}
	}
}
