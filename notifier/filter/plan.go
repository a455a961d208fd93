package filter

import (
	"slices"
	"strings"

	"github.com/cloudevents/sdk-go/sql/v2/gen"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
)

// Plan is what an event needs at the least for filters to be true of it: a
// match index sorts subscriptions by it, so that it evaluates few. The zero
// Plan needs nothing.
type Plan struct {
	// Exact says which values an attribute, in its text form, may have.
	Exact map[string][]string
	// Prefix says how an attribute, in its text form, must start.
	Prefix map[string]string
	// MinRank is the least severityrank; 0 asks for none, not even for the
	// attribute to be there.
	MinRank int32
}

func (p *Plan) exact(name string, values ...string) {
	if p.Exact == nil {
		p.Exact = map[string][]string{}
	}
	if have, ok := p.Exact[name]; ok && len(have) <= len(values) {
		return // either is needed; the smaller is the better
	}
	p.Exact[name] = values
}

func (p *Plan) prefix(name, value string) {
	if value == "" {
		return
	}
	if p.Prefix == nil {
		p.Prefix = map[string]string{}
	}
	if len(p.Prefix[name]) < len(value) {
		p.Prefix[name] = value
	}
}

func (p *Plan) rank(n int32) { p.MinRank = max(p.MinRank, n) }

// add adds what n needs.
func (p *Plan) add(n node) {
	switch n := n.(type) {
	case attributes:
		for i, name := range n.names {
			switch n.op {
			case exact:
				p.exact(name, n.values[i])
			case prefix:
				p.prefix(name, n.values[i])
			}
		}
	case allOf:
		for _, one := range n {
			p.add(one)
		}
	case anyOf:
		p.any(n)
	case *sqlExpression:
		p.merge(n.plan)
	case *celExpression:
		p.merge(n.plan)
	}
}

// any adds the attributes that every alternative needs to be one of some
// values.
func (p *Plan) any(alternatives []node) {
	var common map[string][]string
	for i, one := range alternatives {
		var alt Plan
		alt.add(one)
		if i == 0 {
			common = alt.Exact
			continue
		}
		joined := map[string][]string{}
		for name, values := range common {
			if more, ok := alt.Exact[name]; ok {
				joined[name] = append(append([]string(nil), values...), more...)
			}
		}
		common = joined
	}
	for name, values := range common {
		p.exact(name, values...)
	}
}

func (p *Plan) merge(o Plan) {
	for name, values := range o.Exact {
		p.exact(name, values...)
	}
	for name, value := range o.Prefix {
		p.prefix(name, value)
	}
	p.rank(o.MinRank)
}

// Allows says whether the event has what the plan needs.
func (p *Plan) Allows(e *Event) bool {
	if p.MinRank > 0 && (e.Extensions.SeverityRank == nil || *e.Extensions.SeverityRank < p.MinRank) {
		return false
	}
	for name, values := range p.Exact {
		if !slices.ContainsFunc(e.Texts(name), func(have string) bool { return slices.Contains(values, have) }) {
			return false
		}
	}
	for name, want := range p.Prefix {
		if !slices.ContainsFunc(e.Texts(name), func(have string) bool { return strings.HasPrefix(have, want) }) {
			return false
		}
	}
	return true
}

// planSQL adds what the expression needs, reading through AND alone: its
// operands must all be true, and an operand that fails fails the whole.
func planSQL(x gen.IExpressionContext, p *Plan) {
	switch x := x.(type) {
	case *gen.SubExpressionContext:
		planSQL(x.Expression(), p)
	case *gen.BinaryLogicExpressionContext:
		c := chainOf(x)
		if c.mixed() || c.operators[0] != "AND" {
			return
		}
		for _, one := range c.operands {
			planSQL(one, p)
		}
	case *gen.AtomExpressionContext:
		if name, ok := sqlAttribute(x); ok && attributeTypes[name] == booleanAttribute {
			p.exact(name, "true")
		}
	case *gen.BinaryComparisonExpressionContext:
		planComparison(x, p)
	case *gen.InExpressionContext:
		name, ok := sqlAttribute(x.Expression())
		if !ok || x.NOT() != nil || attributeTypes[name] != textAttribute {
			return
		}
		var values []string
		for _, one := range x.SetExpression().(*gen.SetExpressionContext).AllExpression() {
			v, ok := sqlString(one)
			if !ok {
				return
			}
			values = append(values, v)
		}
		p.exact(name, values...)
	case *gen.LikeExpressionContext:
		name, ok := sqlAttribute(x.Expression())
		if !ok || x.NOT() != nil || attributeTypes[name] != textAttribute {
			return
		}
		pattern, ok := unquoteSQL(x.StringLiteral().GetText())
		if !ok {
			return
		}
		if i := strings.IndexAny(pattern, "%_"); i >= 0 {
			pattern = pattern[:i]
		}
		p.prefix(name, pattern)
	}
}

func planComparison(x *gen.BinaryComparisonExpressionContext, p *Plan) {
	name, ok := sqlAttribute(x.Expression(0))
	if !ok {
		return
	}
	if v, ok := sqlString(x.Expression(1)); ok {
		if x.EQUAL() != nil && attributeTypes[name] == textAttribute {
			p.exact(name, v)
		}
		return
	}
	if sqlTrue(x.Expression(1)) {
		if x.EQUAL() != nil && attributeTypes[name] == booleanAttribute {
			p.exact(name, "true")
		}
		return
	}
	v, ok := sqlInteger(x.Expression(1))
	if !ok || name != "severityrank" {
		return
	}
	switch {
	case x.EQUAL() != nil, x.GREATER_OR_EQUAL() != nil:
		p.rank(v)
	case x.GREATER() != nil:
		p.rank(v + 1)
	}
}

func sqlAttribute(x gen.IExpressionContext) (string, bool) {
	if a, ok := x.(*gen.AtomExpressionContext); ok {
		if id, ok := a.Atom().(*gen.IdentifierAtomContext); ok {
			return strings.ToLower(id.GetText()), true
		}
	}
	return "", false
}

func sqlString(x gen.IExpressionContext) (string, bool) {
	if a, ok := x.(*gen.AtomExpressionContext); ok {
		if s, ok := a.Atom().(*gen.StringAtomContext); ok {
			return unquoteSQL(s.GetText())
		}
	}
	return "", false
}

// unquoteSQL takes the quotes off a literal; false if it has escapes, whose
// reading is left to the SDK.
func unquoteSQL(s string) (string, bool) {
	if len(s) < 2 {
		return "", false
	}
	s = s[1 : len(s)-1]
	return s, !strings.ContainsAny(s, `\'"`)
}

func sqlTrue(x gen.IExpressionContext) bool {
	if a, ok := x.(*gen.AtomExpressionContext); ok {
		if b, ok := a.Atom().(*gen.BooleanAtomContext); ok {
			return strings.EqualFold(b.GetText(), "true")
		}
	}
	return false
}

func sqlInteger(x gen.IExpressionContext) (int32, bool) {
	a, ok := x.(*gen.AtomExpressionContext)
	if !ok {
		return 0, false
	}
	if _, ok := a.Atom().(*gen.IntegerAtomContext); !ok {
		return 0, false
	}
	// Ranks have one digit; anything longer is not worth an index.
	if s := a.GetText(); len(s) == 1 && s[0] >= '0' && s[0] <= '9' {
		return int32(s[0] - '0'), true
	}
	return 0, false
}

// planCEL adds what the expression needs, reading through && alone. Unlike in
// CloudEvents SQL an operand that fails does not fail an && whose other is
// false, but then the whole is false all the same.
func planCEL(x ast.Expr, p *Plan) {
	switch x.Kind() {
	case ast.IdentKind, ast.SelectKind:
		if name, ok := celAttribute(x); ok && attributeTypes[name] == booleanAttribute {
			p.exact(name, "true")
		}
	case ast.CallKind:
		call := x.AsCall()
		args := call.Args()
		switch call.FunctionName() {
		case operators.LogicalAnd:
			for _, a := range args {
				planCEL(a, p)
			}
		case operators.Equals, operators.Greater, operators.GreaterEquals:
			planCELComparison(call.FunctionName(), args[0], args[1], p)
		case "startsWith":
			if name, ok := celAttribute(call.Target()); ok && attributeTypes[name] == textAttribute && len(args) == 1 {
				if v, ok := celLiteral(args[0]).(string); ok {
					p.prefix(name, v)
				}
			}
		}
	}
}

func planCELComparison(op string, left, right ast.Expr, p *Plan) {
	name, ok := celAttribute(left)
	if !ok {
		return
	}
	switch v := celLiteral(right).(type) {
	case string:
		if op == operators.Equals && attributeTypes[name] == textAttribute {
			p.exact(name, v)
		}
	case int64:
		if name != "severityrank" || v < 0 || v > 9 {
			return
		}
		if op == operators.Greater {
			v++
		}
		p.rank(int32(v))
	}
}

// celAttribute is the attribute that x names, by itself or as event.NAME.
func celAttribute(x ast.Expr) (string, bool) {
	switch x.Kind() {
	case ast.IdentKind:
		name := x.AsIdent()
		_, ok := attributeTypes[name]
		return name, ok && name != "type"
	case ast.SelectKind:
		s := x.AsSelect()
		if s.IsTestOnly() || s.Operand().Kind() != ast.IdentKind || s.Operand().AsIdent() != "event" {
			return "", false
		}
		_, ok := attributeTypes[s.FieldName()]
		return s.FieldName(), ok
	}
	return "", false
}

func celLiteral(x ast.Expr) any {
	if x.Kind() != ast.LiteralKind {
		return nil
	}
	return x.AsLiteral().Value()
}
