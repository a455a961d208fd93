package filter

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/antlr/antlr4/runtime/Go/antlr"
	cesql "github.com/cloudevents/sdk-go/sql/v2"
	"github.com/cloudevents/sdk-go/sql/v2/gen"
	"github.com/cloudevents/sdk-go/sql/v2/parser"
	"github.com/cloudevents/sdk-go/sql/v2/runtime"
	"github.com/cloudevents/sdk-go/sql/v2/utils"
)

// Bounds on a CloudEvents SQL expression, kept before the parser sees it: its
// prediction grows faster than the expression does.
const (
	sqlTokens = 512
	sqlDepth  = 24
)

// parsing guards the parser's tables, which all parsers share.
var parsing sync.Mutex

// sqlExpression is one filter of the dialect sql.
type sqlExpression struct {
	expr cesql.Expression
	plan Plan
}

func (n *sqlExpression) needsData() bool { return false }

func (n *sqlExpression) eval(_ context.Context, e *Event) (ok bool, err error) {
	defer func() {
		if r := recover(); r != nil {
			ok, err = false, fmt.Errorf("sql: the expression failed: %v", r)
		}
	}()
	v, err := n.expr.Evaluate(e.CloudEvent())
	if err != nil {
		return false, fmt.Errorf("sql: %w", err)
	}
	v, err = utils.Cast(v, cesql.BooleanType)
	if err != nil {
		return false, fmt.Errorf("sql: the expression is not true or false: %w", err)
	}
	return v.(bool), nil
}

func (b *builder) sql(text, at string) node {
	tree, faults := parseSQL(text)
	if len(faults) > 0 {
		b.refuse(at, "see the CloudEvents SQL 1.0 specification; an example: severityrank >= 4 AND fixable", "%s", faults[0])
		return nil
	}
	walk := &sqlWalk{builder: b, at: at}
	walk.visit(tree)
	if walk.bad {
		return nil
	}
	compile := &sqlTree{}
	expr := compile.expression(tree.Expression())
	if compile.err != nil {
		return b.refuse(at, "", "%s", oneLine(compile.err.Error()))
	}
	n := &sqlExpression{expr: expr}
	planSQL(tree.Expression(), &n.plan)
	return n
}

// parseSQL parses text by the SDK's grammar. Unlike the SDK's own errors, its
// faults have a position.
func parseSQL(text string) (tree *gen.CesqlContext, faults []string) {
	l := &sqlListener{}
	defer func() {
		if r := recover(); r != nil {
			faults = append(l.faults, fmt.Sprintf("the expression can't be parsed: %v", r))
		}
	}()
	lexer := gen.NewCESQLParserLexer(parser.NewCaseChangingStream(antlr.NewInputStream(text), true))
	lexer.RemoveErrorListeners()
	lexer.AddErrorListener(l)
	parsing.Lock()
	defer parsing.Unlock()
	stream := antlr.NewCommonTokenStream(lexer, antlr.TokenDefaultChannel)
	stream.Fill()
	if fault := tooComplex(stream.GetAllTokens()); fault != "" {
		return nil, append(l.faults, fault)
	}
	p := gen.NewCESQLParserParser(stream)
	p.RemoveErrorListeners()
	p.AddErrorListener(l)
	tree, _ = p.Cesql().(*gen.CesqlContext)
	return tree, l.faults
}

// tooComplex says what is over the bounds, "" if nothing is.
func tooComplex(tokens []antlr.Token) string {
	if len(tokens) > sqlTokens {
		return fmt.Sprintf("more than %d words and signs", sqlTokens)
	}
	depth, prefixes := 0, 0
	for _, t := range tokens {
		switch t.GetTokenType() {
		case gen.CESQLParserLexerLR_BRACKET:
			depth++
			prefixes = 0
		case gen.CESQLParserLexerRR_BRACKET:
			depth--
			prefixes = 0
		case gen.CESQLParserLexerNOT, gen.CESQLParserLexerMINUS:
			prefixes++
		default:
			prefixes = 0
		}
		if depth+prefixes > sqlDepth {
			return fmt.Sprintf("line %d, column %d: nested more than %d deep", t.GetLine(), t.GetColumn()+1, sqlDepth)
		}
	}
	return ""
}

// sqlListener collects syntax errors with their positions, both 1-based.
type sqlListener struct {
	antlr.DefaultErrorListener
	faults []string
}

func (l *sqlListener) SyntaxError(_ antlr.Recognizer, _ any, line, column int, msg string, _ antlr.RecognitionException) {
	if len(l.faults) < 8 {
		l.faults = append(l.faults, fmt.Sprintf("line %d, column %d: %s", line, column+1, oneLine(msg)))
	}
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// sqlWalk checks that attributes and functions exist, and that an expression
// means what people take it for.
type sqlWalk struct {
	*builder
	at  string
	bad bool
}

func (w *sqlWalk) visit(tree antlr.Tree) {
	switch c := tree.(type) {
	case *gen.IdentifierContext:
		name := strings.ToLower(c.GetText())
		if _, ok := w.limits.Attributes[name]; !ok {
			w.bad = true
			w.refuse(w.at, "known attributes: "+strings.Join(sortedKeys(w.limits.Attributes), ", "),
				"line %d, column %d: no event has an attribute %q", c.GetStart().GetLine(), c.GetStart().GetColumn()+1, name)
		}
		return
	case *gen.BinaryLogicExpressionContext:
		// CloudEvents SQL evaluates them from left to right, SQL and most people
		// take AND before OR.
		if !w.stored && chainOf(c).mixed() {
			w.bad = true
			w.refuse(w.at, "put parentheses, as in (a AND b) OR c", "line %d, column %d: AND, OR and XOR are mixed without parentheses",
				c.GetStart().GetLine(), c.GetStart().GetColumn()+1)
			return
		}
	case *gen.FunctionInvocationExpressionContext:
		args := c.FunctionParameterList().(*gen.FunctionParameterListContext).AllExpression()
		name := strings.ToUpper(c.FunctionIdentifier().GetText())
		if runtime.ResolveFunction(name, len(args)) == nil {
			w.bad = true
			w.refuse(w.at, "functions are those of CloudEvents SQL 1.0, such as LENGTH, LOWER, LEFT, SUBSTRING, CONCAT",
				"line %d, column %d: no function %s with %d arguments", c.GetStart().GetLine(), c.GetStart().GetColumn()+1, name, len(args))
		}
	}
	for _, child := range tree.GetChildren() {
		w.visit(child)
	}
}
