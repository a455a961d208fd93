package filter

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/interpreter"

	"tocsin.dev/tocsin/schemas"
)

// Bounds on a cel expression beside Limits.
const (
	celDepth         = 32
	celNodes         = 2000
	celComprehension = 3
	celRegexProgram  = 1000
)

// celCompiler holds the environment of the dialect cel: the variables event (a
// map of all attributes), data, and each attribute by its own name where CEL
// has no other use for it (type and id are event.type and event.id); and
// rank("High"), the rank of a severity.
type celCompiler struct {
	env     *cel.Env
	options []cel.ProgramOption
	limits  Limits
}

func newCEL(l Limits) (*celCompiler, error) {
	options := []cel.EnvOption{
		cel.Variable("event", cel.MapType(cel.StringType, cel.DynType)),
		cel.Variable("data", cel.DynType),
		cel.ParserRecursionLimit(celDepth),
		cel.ParserErrorRecoveryLimit(4),
		cel.ParserExpressionSizeLimit(l.Length),
		cel.ExpressionNodeLimit(celNodes),
		cel.ExpressionNestingDepthLimit(4 * celDepth),
		cel.RegexProgramSizeLimit(celRegexProgram),
		cel.ASTValidators(
			cel.ValidateRegexLiterals(),
			cel.ValidateDurationLiterals(),
			cel.ValidateTimestampLiterals(),
			cel.ValidateComprehensionNestingLimit(celComprehension),
		),
		cel.Function("rank", cel.Overload("rank_string", []*cel.Type{cel.StringType}, cel.IntType,
			cel.UnaryBinding(func(v ref.Val) ref.Val {
				s, _ := v.Value().(string)
				return types.Int(schemas.SeverityRank(s))
			}))),
	}
	for name, kind := range l.Attributes {
		if name == "type" {
			continue // CEL's own
		}
		t := cel.StringType
		switch kind {
		case integerAttribute:
			t = cel.IntType
		case booleanAttribute:
			t = cel.BoolType
		}
		options = append(options, cel.Variable(name, t))
	}
	env, err := cel.NewEnv(options...)
	if err != nil {
		return nil, err
	}
	return &celCompiler{env: env, limits: l, options: []cel.ProgramOption{
		cel.EvalOptions(cel.OptOptimize, cel.OptTrackCost),
		cel.CostTracking(steps{}),
		cel.CostLimit(l.Cost),
		cel.InterruptCheckFrequency(100), // the process may be stopping
	}}, nil
}

// celExpression is one filter of the dialect cel.
type celExpression struct {
	program cel.Program
	limit   uint64
	data    bool // it reads the data
	later   bool // it costs too much to be evaluated while events are written
	plan    Plan
}

func (n *celExpression) needsData() bool { return n.data || n.later }

func (n *celExpression) eval(ctx context.Context, e *Event) (ok bool, err error) {
	defer func() {
		if r := recover(); r != nil {
			ok, err = false, fmt.Errorf("cel: the expression failed: %v", r)
		}
	}()
	vars := &celVars{event: e}
	if n.data {
		if vars.data, err = e.value(); err != nil {
			return false, err
		}
	}
	out, details, err := n.program.ContextEval(ctx, vars)
	if over, ok := errors.AsType[interpreter.EvalCancelledError](err); ok && over.Cause == interpreter.CostLimitExceeded {
		spend(ctx, n.limit)
		return false, &errCost{n.limit}
	}
	if details != nil && details.ActualCost() != nil {
		spend(ctx, *details.ActualCost())
	}
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return false, cause
		}
		return false, fmt.Errorf("cel: %w", err)
	}
	v, isBool := out.Value().(bool)
	if !isBool {
		return false, fmt.Errorf("cel: the expression is %s, not true or false", out.Type().TypeName())
	}
	return v, nil
}

// celVars is the activation of one evaluation.
type celVars struct {
	event *Event
	data  any
}

// ResolveName implements cel.Activation.
func (v *celVars) ResolveName(name string) (any, bool) {
	switch name {
	case "event":
		return v.event.all(), true
	case "data":
		return v.data, v.data != nil
	}
	return v.event.Attr(name)
}

// Parent implements cel.Activation.
func (v *celVars) Parent() cel.Activation { return nil }

func (b *builder) celExpression(text, at string) node {
	checked, issues := b.cel.env.Compile(text)
	if issues.Err() != nil {
		for _, e := range issues.Errors() {
			b.refuse(at, "variables: data, event and its attributes; an example: data.added.exists(f, f.kev)",
				"line %d, column %d: %s", max(e.Location.Line(), 1), e.Location.Column()+1, oneLine(e.Message))
		}
		if len(issues.Errors()) == 0 {
			b.refuse(at, "", "%s", oneLine(issues.Err().Error()))
		}
		return nil
	}
	if t := checked.OutputType(); !t.IsExactType(cel.BoolType) && !t.IsExactType(cel.DynType) {
		return b.refuse(at, "compare it with something", "line 1, column 1: the expression is a %s, not true or false", t)
	}
	if !b.stored && !b.fields(checked.NativeRep(), at) {
		return nil
	}
	estimate, err := b.cel.env.EstimateCost(checked, sizes{})
	if err != nil {
		return b.refuse(at, "", "%s", oneLine(err.Error()))
	}
	if estimate.Max > b.limits.Estimate && !b.stored {
		return b.refuse(at, "compare the elements of one list with something fixed, not those of two lists with each other",
			"it would take up to %d steps for one event, over the limit of %d", estimate.Max, b.limits.Estimate)
	}
	program, err := b.cel.env.Program(checked, b.cel.options...)
	if err != nil {
		return b.refuse(at, "", "%s", oneLine(err.Error()))
	}
	n := &celExpression{program: program, limit: b.limits.Cost}
	for _, r := range checked.NativeRep().ReferenceMap() {
		if r.Name == "data" {
			n.data = true
		}
	}
	if !n.data {
		b.early += min(estimate.Max, b.limits.Early+1)
		n.later = b.early > b.limits.Early
	}
	planCEL(checked.NativeRep().Expr(), &n.plan)
	return n
}
