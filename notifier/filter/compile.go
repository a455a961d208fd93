package filter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"tocsin.dev/tocsin/schemas"
)

// Problem is one thing that is wrong with a filter. Pointer is a JSON pointer
// (RFC 6901) from the filters' array on, such as "/0/any/2/sql".
type Problem struct {
	Pointer string
	Detail  string
	Hint    string
}

// Limits bound what a filter may be. The zero value means the defaults.
type Limits struct {
	Nodes      int    // filter expressions in all; default 256
	Depth      int    // nesting of all, any and not; default 16
	Length     int    // bytes of one sql or cel expression or one value; default 4096
	Total      int    // bytes of all expressions and values; default 16 KiB
	Cost       uint64 // of one cel evaluation, in cel-go's units; default 2,000,000
	Estimate   uint64 // of that, as estimated when it is written; default 1,000,000
	Early      uint64 // estimated, of a subscription's cel expressions that are evaluated while events are written; default 500
	Attributes map[string]attributeKind
}

func (l Limits) defaults() Limits {
	l.Nodes = cmp.Or(l.Nodes, 256)
	l.Depth = cmp.Or(l.Depth, 16)
	l.Length = cmp.Or(l.Length, 4096)
	l.Total = cmp.Or(l.Total, 16<<10)
	l.Cost = cmp.Or(l.Cost, 2_000_000)
	l.Estimate = cmp.Or(l.Estimate, 1_000_000)
	l.Early = cmp.Or(l.Early, 500)
	if l.Attributes == nil {
		l.Attributes = attributeTypes
	}
	return l
}

// Set is the compiled filters of one subscription. It is safe for concurrent
// use.
type Set struct {
	attrs []node // what the attributes alone decide
	data  []node // what has to see the data
	plan  Plan
}

// node is one compiled filter expression.
type node interface {
	// eval says whether the filter is true of the event. On an error it is not.
	eval(ctx context.Context, e *Event) (bool, error)
	// needsData says whether eval may return ErrNoData.
	needsData() bool
}

// Compiler compiles filters. It is safe for concurrent use.
type Compiler struct {
	limits Limits
	cel    *celCompiler
}

// NewCompiler returns a compiler with these limits.
func NewCompiler(limits Limits) (*Compiler, error) {
	l := limits.defaults()
	c, err := newCEL(l)
	if err != nil {
		return nil, fmt.Errorf("filter: the cel environment: %w", err)
	}
	return &Compiler{limits: l, cel: c}, nil
}

// Compile compiles the filters of a subscription that somebody writes. All that
// is wrong with them is returned; the set is nil then.
func (c *Compiler) Compile(filters []schemas.Filter) (*Set, []Problem) {
	return (&builder{Compiler: c}).compile(filters)
}

// CompileStored compiles filters that were accepted before, perhaps by an
// earlier version. What is refused only because it is likely to be a mistake,
// such as AND and OR without parentheses or a field that no event has, is
// evaluated as the specification has it.
func (c *Compiler) CompileStored(filters []schemas.Filter) (*Set, []Problem) {
	return (&builder{Compiler: c, stored: true}).compile(filters)
}

func (b *builder) compile(filters []schemas.Filter) (*Set, []Problem) {
	set := &Set{}
	for i, f := range filters {
		n := b.filter(f, fmt.Sprintf("/%d", i), 1)
		if n == nil {
			continue
		}
		if n.needsData() {
			set.data = append(set.data, n)
		} else {
			set.attrs = append(set.attrs, n)
		}
		set.plan.add(n)
	}
	if len(b.problems) > 0 {
		return nil, b.problems
	}
	return set, nil
}

// NeedsData says whether Match has to see the event's data.
func (s *Set) NeedsData() bool { return len(s.data) > 0 }

// Plan is what an event needs at the least for the set to be true of it.
func (s *Set) Plan() Plan { return s.plan }

// MatchAttributes evaluates the filters that do not need the data. If it is
// false, Match would be too.
func (s *Set) MatchAttributes(ctx context.Context, e *Event) bool {
	return e.under(func(e *Event) bool { return match(ctx, s.attrs, e) })
}

// Match evaluates all filters. A filter that fails is not true; without data
// one that needs it fails.
func (s *Set) Match(ctx context.Context, e *Event) bool {
	return e.under(func(e *Event) bool { return match(ctx, s.attrs, e) && match(ctx, s.data, e) })
}

func match(ctx context.Context, nodes []node, e *Event) bool {
	for _, n := range nodes {
		if ok, err := n.eval(ctx, e); !ok || err != nil {
			return false
		}
	}
	return true
}

type builder struct {
	*Compiler
	stored   bool // see CompileStored
	problems []Problem
	nodes    int
	total    int
	early    uint64 // estimated cost of what is evaluated while events are written
}

func (b *builder) refuse(pointer, hint, detail string, args ...any) node {
	if len(b.problems) < 32 {
		b.problems = append(b.problems, Problem{Pointer: pointer, Detail: fmt.Sprintf(detail, args...), Hint: hint})
	}
	return nil
}

const oneDialect = "each filter is an object with exactly one of exact, prefix, suffix, all, any, not, sql, cel"

func (b *builder) filter(f schemas.Filter, at string, depth int) node {
	if b.nodes++; b.nodes > b.limits.Nodes {
		if b.nodes == b.limits.Nodes+1 {
			b.refuse(at, "use sql or cel for many alternatives", "more than %d filter expressions", b.limits.Nodes)
		}
		return nil
	}
	if depth > b.limits.Depth {
		return b.refuse(at, "flatten it", "filters are nested more than %d deep", b.limits.Depth)
	}
	var dialects []string
	for _, d := range []struct {
		name string
		set  bool
	}{
		{"exact", f.Exact != nil}, {"prefix", f.Prefix != nil}, {"suffix", f.Suffix != nil},
		{"all", f.All != nil}, {"any", f.Any != nil}, {"not", f.Not != nil},
		{"sql", f.SQL != ""}, {"cel", f.CEL != ""},
	} {
		if d.set {
			dialects = append(dialects, d.name)
		}
	}
	switch len(dialects) {
	case 0:
		return b.refuse(at, oneDialect, "an empty filter")
	case 1:
	default:
		return b.refuse(at, oneDialect+"; several conditions go into all", "a filter with several dialects: %s", strings.Join(dialects, ", "))
	}
	at += "/" + dialects[0]
	switch dialects[0] {
	case "exact":
		return b.values(f.Exact, at, exact)
	case "prefix":
		return b.values(f.Prefix, at, prefix)
	case "suffix":
		return b.values(f.Suffix, at, suffix)
	case "all":
		return b.several(f.All, at, depth, func(n []node) node { return allOf(n) })
	case "any":
		return b.several(f.Any, at, depth, func(n []node) node { return anyOf(n) })
	case "not":
		if n := b.filter(*f.Not, at, depth+1); n != nil {
			return notOf{n}
		}
		return nil
	case "sql":
		if !b.fits(f.SQL, at) {
			return nil
		}
		return b.sql(f.SQL, at)
	default:
		if !b.fits(f.CEL, at) {
			return nil
		}
		return b.celExpression(f.CEL, at)
	}
}

func (b *builder) several(fs []schemas.Filter, at string, depth int, join func([]node) node) node {
	if len(fs) == 0 {
		return b.refuse(at, "leave the filter out to match everything", "needs at least one filter")
	}
	nodes := make([]node, 0, len(fs))
	for i, f := range fs {
		if n := b.filter(f, fmt.Sprintf("%s/%d", at, i), depth+1); n != nil {
			nodes = append(nodes, n)
		}
	}
	if len(nodes) < len(fs) {
		return nil
	}
	return join(nodes)
}

func (b *builder) fits(s, at string) bool {
	if strings.ContainsRune(s, 0) || !utf8.ValidString(s) {
		b.refuse(at, "", "has a NUL character or is not UTF-8")
		return false
	}
	if len(s) > b.limits.Length {
		b.refuse(at, "split it into several filters", "%d bytes, over the limit of %d", len(s), b.limits.Length)
		return false
	}
	if b.total += len(s); b.total > b.limits.Total {
		if b.total-len(s) <= b.limits.Total {
			b.refuse(at, "make several subscriptions of it", "the filters have more than %d bytes in all", b.limits.Total)
		}
		return false
	}
	return true
}

func (b *builder) values(want map[string]string, at string, op comparison) node {
	if len(want) == 0 {
		return b.refuse(at, `such as {"severity": "High"}`, "needs at least one attribute")
	}
	n := attributes{op: op}
	for _, name := range sortedKeys(want) {
		value := want[name]
		here := at + "/" + escapePointer(name)
		switch {
		case value == "":
			b.refuse(here, "", "the value is empty")
		case !b.fits(value, here):
		case b.attribute(name, here):
			n.names, n.values = append(n.names, name), append(n.values, value)
		}
	}
	if len(n.names) < len(want) {
		return nil
	}
	return n
}

// attribute refuses names that no event has.
func (b *builder) attribute(name, at string) bool {
	if _, ok := b.limits.Attributes[name]; ok {
		return true
	}
	b.refuse(at, "known attributes: "+strings.Join(sortedKeys(b.limits.Attributes), ", "), "no event has an attribute %q", name)
	return false
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func escapePointer(s string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(s)
}

// comparison is how the dialects exact, prefix and suffix compare.
type comparison int

const (
	exact comparison = iota
	prefix
	suffix
)

func (c comparison) holds(have, want string) bool {
	switch c {
	case prefix:
		return strings.HasPrefix(have, want)
	case suffix:
		return strings.HasSuffix(have, want)
	}
	return have == want
}

// attributes is one filter of the dialects exact, prefix and suffix: true if
// every attribute is there and compares.
type attributes struct {
	op     comparison
	names  []string
	values []string
}

func (n attributes) needsData() bool { return false }

func (n attributes) eval(_ context.Context, e *Event) (bool, error) {
	for i, name := range n.names {
		if have, ok := e.Text(name); !ok || !n.op.holds(have, n.values[i]) {
			return false, nil
		}
	}
	return true, nil
}

type allOf []node

func (n allOf) needsData() bool { return slices.ContainsFunc(n, node.needsData) }

func (n allOf) eval(ctx context.Context, e *Event) (bool, error) {
	for _, one := range n {
		if ok, err := one.eval(ctx, e); !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

type anyOf []node

func (n anyOf) needsData() bool { return slices.ContainsFunc(n, node.needsData) }

func (n anyOf) eval(ctx context.Context, e *Event) (bool, error) {
	var errs error
	for _, one := range n {
		ok, err := one.eval(ctx, e)
		if ok && err == nil {
			return true, nil
		}
		errs = errors.Join(errs, err)
	}
	return false, errs
}

type notOf struct{ node }

func (n notOf) eval(ctx context.Context, e *Event) (bool, error) {
	ok, err := n.node.eval(ctx, e)
	return !ok && err == nil, err
}
