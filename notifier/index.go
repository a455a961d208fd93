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

// bucket holds classes, each in one place.
type bucket struct {
	classes map[string]*class
	exact   map[string]map[string][]*class // attribute, value
	prefix  map[string]*prefixes           // attribute
	rank    [6][]*class                    // least severityrank; 0: none of all this
}

// class is subscribers who ask for the same: their filters are evaluated once.
type class struct {
	set  *filter.Set
	plan filter.Plan
	subs []*subscriber
}

// prefixes holds classes by how an attribute must start.
type prefixes struct {
	lengths []int // ascending
	by      map[string][]*class
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
	if c := b.classes[s.asks]; c != nil {
		c.subs = append(c.subs, s)
		return
	}
	if b.classes == nil {
		b.classes = map[string]*class{}
	}
	c := &class{set: s.set, plan: s.plan, subs: []*subscriber{s}}
	b.classes[s.asks] = c
	for _, name := range selective {
		if values, ok := c.plan.Exact[name]; ok {
			b.addExact(name, values, c)
			return
		}
		if value, ok := c.plan.Prefix[name]; ok {
			b.addPrefix(name, value, c)
			return
		}
	}
	rank := min(max(c.plan.MinRank, 0), int32(len(b.rank)-1))
	b.rank[rank] = append(b.rank[rank], c)
}

func (b *bucket) addExact(name string, values []string, c *class) {
	if b.exact == nil {
		b.exact = map[string]map[string][]*class{}
	}
	by := b.exact[name]
	if by == nil {
		by = map[string][]*class{}
		b.exact[name] = by
	}
	values = slices.Clone(values)
	slices.Sort(values)
	for _, v := range slices.Compact(values) {
		by[v] = append(by[v], c)
	}
}

func (b *bucket) addPrefix(name, value string, c *class) {
	if b.prefix == nil {
		b.prefix = map[string]*prefixes{}
	}
	p := b.prefix[name]
	if p == nil {
		p = &prefixes{by: map[string][]*class{}}
		b.prefix[name] = p
	}
	if i, ok := slices.BinarySearch(p.lengths, len(value)); !ok {
		p.lengths = slices.Insert(p.lengths, i, len(value))
	}
	p.by[value] = append(p.by[value], c)
}

// candidates are the classes in the bucket that the event may concern. A nil
// bucket has none.
func (b *bucket) candidates(e *filter.Event) iter.Seq[*class] {
	return func(yield func(*class) bool) {
		if b == nil {
			return
		}
		var seen map[*class]bool // where one name may lead to what another did
		if len(e.Names) > 1 {
			seen = map[*class]bool{}
		}
		all := func(classes []*class) bool {
			for _, c := range classes {
				if seen[c] || !c.plan.Allows(e) {
					continue
				}
				if seen != nil {
					seen[c] = true
				}
				if !yield(c) {
					return false
				}
			}
			return true
		}
		for name, by := range b.exact {
			for _, v := range e.Texts(name) {
				if !all(by[v]) {
					return
				}
			}
		}
		for name, p := range b.prefix {
			for _, v := range e.Texts(name) {
				for _, n := range p.lengths {
					if n > len(v) {
						break
					}
					if !all(p.by[v[:n]]) {
						return
					}
				}
			}
		}
		rank := int32(0)
		if e.Extensions.SeverityRank != nil {
			rank = min(max(*e.Extensions.SeverityRank, 0), int32(len(b.rank)-1))
		}
		for _, classes := range b.rank[:rank+1] {
			if !all(classes) {
				return
			}
		}
	}
}

// empty says whether nothing can match.
func (b *bucket) empty() bool { return b == nil || len(b.classes) == 0 }

// matching are the subscribers that the event is delivered to one by one, as
// far as its attributes say: those whose filters need the data are among them.
func (v *view) matching(ctx context.Context, e *filter.Event) iter.Seq[*subscriber] {
	return matching(ctx, v.index.types[e.Type], e)
}

func matching(ctx context.Context, b *bucket, e *filter.Event) iter.Seq[*subscriber] {
	return func(yield func(*subscriber) bool) {
		for c := range b.candidates(e) {
			if !c.set.MatchAttributes(ctx, e) {
				continue
			}
			for _, s := range c.subs {
				if !yield(s) {
					return
				}
			}
		}
	}
}
