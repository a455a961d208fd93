package filter

import (
	"fmt"
	"strconv"
	"strings"

	cesql "github.com/cloudevents/sdk-go/sql/v2"
	"github.com/cloudevents/sdk-go/sql/v2/expression"
	"github.com/cloudevents/sdk-go/sql/v2/gen"
)

// The SDK's own way from the grammar to expressions reads a chain of AND, OR
// and XOR from the right, and its string functions and LIKE count bytes. The
// specification reads from the left (CloudEvents SQL 1.0, section 3.6) and means
// characters. So the tree is walked here: what the SDK does right, its
// expressions do; the rest is in sqltext.go.

// sqlTree makes an expression of a parse tree. What it can't is an error with
// its position.
type sqlTree struct{ err error }

func (t *sqlTree) fail(x gen.IExpressionContext, format string, args ...any) cesql.Expression {
	if t.err == nil {
		start := x.GetStart()
		t.err = fmt.Errorf("line %d, column %d: %s", start.GetLine(), start.GetColumn()+1, fmt.Sprintf(format, args...))
	}
	return expression.NewLiteralExpression(false)
}

func (t *sqlTree) expression(x gen.IExpressionContext) cesql.Expression {
	switch x := x.(type) {
	case *gen.AtomExpressionContext:
		return t.atom(x)
	case *gen.SubExpressionContext:
		return t.expression(x.Expression())
	case *gen.UnaryLogicExpressionContext:
		return expression.NewNotExpression(t.expression(x.Expression()))
	case *gen.UnaryNumericExpressionContext:
		return expression.NewNegateExpression(t.expression(x.Expression()))
	case *gen.BinaryLogicExpressionContext:
		return t.logic(x)
	case *gen.BinaryComparisonExpressionContext:
		return t.comparison(x)
	case *gen.BinaryAdditiveExpressionContext:
		left, right := t.expression(x.Expression(0)), t.expression(x.Expression(1))
		if x.PLUS() != nil {
			return expression.NewSumExpression(left, right)
		}
		return expression.NewDifferenceExpression(left, right)
	case *gen.BinaryMultiplicativeExpressionContext:
		left, right := t.expression(x.Expression(0)), t.expression(x.Expression(1))
		switch {
		case x.STAR() != nil:
			return expression.NewMultiplicationExpression(left, right)
		case x.MODULE() != nil:
			return expression.NewModuleExpression(left, right)
		}
		return expression.NewDivisionExpression(left, right)
	case *gen.ExistsExpressionContext:
		return expression.NewExistsExpression(strings.ToLower(x.Identifier().GetText()))
	case *gen.InExpressionContext:
		in := expression.NewInExpression(t.expression(x.Expression()), t.all(x.SetExpression().(*gen.SetExpressionContext).AllExpression()))
		return negated(in, x.NOT() != nil)
	case *gen.LikeExpressionContext:
		like := likeText{child: t.expression(x.Expression()), pattern: []rune(sqlText(x.StringLiteral()))}
		return negated(like, x.NOT() != nil)
	case *gen.FunctionInvocationExpressionContext:
		args := t.all(x.FunctionParameterList().(*gen.FunctionParameterListContext).AllExpression())
		name := strings.ToUpper(x.FunctionIdentifier().GetText())
		if f, ok := textFunctions[textFunction{name, len(args)}]; ok {
			return onText{args: args, do: f}
		}
		return expression.NewFunctionInvocationExpression(name, args)
	}
	return t.fail(x, "can't be evaluated")
}

func (t *sqlTree) all(xs []gen.IExpressionContext) []cesql.Expression {
	out := make([]cesql.Expression, len(xs))
	for i, x := range xs {
		out[i] = t.expression(x)
	}
	return out
}

func negated(x cesql.Expression, not bool) cesql.Expression {
	if not {
		return expression.NewNotExpression(x)
	}
	return x
}

func (t *sqlTree) atom(x *gen.AtomExpressionContext) cesql.Expression {
	switch a := x.Atom().(type) {
	case *gen.BooleanAtomContext:
		return expression.NewLiteralExpression(strings.EqualFold(a.GetText(), "true"))
	case *gen.IntegerAtomContext:
		n, err := strconv.ParseInt(a.GetText(), 10, 32)
		if err != nil {
			return t.fail(x, "the number %s is out of range: it needs more than 32 bits", a.GetText())
		}
		return expression.NewLiteralExpression(int32(n))
	case *gen.StringAtomContext:
		return expression.NewLiteralExpression(sqlText(a.StringLiteral()))
	case *gen.IdentifierAtomContext:
		return expression.NewIdentifierExpression(strings.ToLower(a.GetText()))
	}
	return t.fail(x, "can't be evaluated")
}

// sqlText is what a literal with its quotes stands for.
func sqlText(x gen.IStringLiteralContext) string {
	s := x.GetText()
	quote := s[:1]
	return strings.ReplaceAll(s[1:len(s)-1], `\`+quote, quote)
}

// chain is operands joined by AND, OR and XOR without parentheses, in the order
// they are written: between operands[i] and operands[i+1] is operators[i].
type chain struct {
	operands  []gen.IExpressionContext
	operators []string
}

// chainOf reads a chain from the tree, in which the grammar hangs the rest of it
// to the right.
func chainOf(x *gen.BinaryLogicExpressionContext) chain {
	var c chain
	for {
		op := "XOR"
		if x.AND() != nil {
			op = "AND"
		} else if x.OR() != nil {
			op = "OR"
		}
		c.operands, c.operators = append(c.operands, x.Expression(0)), append(c.operators, op)
		rest, ok := x.Expression(1).(*gen.BinaryLogicExpressionContext)
		if !ok {
			c.operands = append(c.operands, x.Expression(1))
			return c
		}
		x = rest
	}
}

// mixed reports whether different operators stand in the chain.
func (c chain) mixed() bool {
	for _, op := range c.operators {
		if op != c.operators[0] {
			return true
		}
	}
	return false
}

// logic evaluates a chain from left to right.
func (t *sqlTree) logic(x *gen.BinaryLogicExpressionContext) cesql.Expression {
	c := chainOf(x)
	left := t.expression(c.operands[0])
	for i, op := range c.operators {
		right := t.expression(c.operands[i+1])
		switch op {
		case "AND":
			left = expression.NewAndExpression(left, right)
		case "OR":
			left = expression.NewOrExpression(left, right)
		default:
			left = expression.NewXorExpression(left, right)
		}
	}
	return left
}

func (t *sqlTree) comparison(x *gen.BinaryComparisonExpressionContext) cesql.Expression {
	left, right := t.expression(x.Expression(0)), t.expression(x.Expression(1))
	switch {
	case x.LESS() != nil:
		return expression.NewLessExpression(left, right)
	case x.LESS_OR_EQUAL() != nil:
		return expression.NewLessOrEqualExpression(left, right)
	case x.GREATER() != nil:
		return expression.NewGreaterExpression(left, right)
	case x.GREATER_OR_EQUAL() != nil:
		return expression.NewGreaterOrEqualExpression(left, right)
	case x.EQUAL() != nil:
		return expression.NewEqualExpression(left, right)
	}
	return expression.NewNotEqualExpression(left, right)
}
