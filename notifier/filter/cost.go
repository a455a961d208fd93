package filter

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/checker"
	"github.com/google/cel-go/common/overloads"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
)

// What an expression may cost is counted in cel-go's units, about one for each
// step: the same expression over the same event costs the same on every machine,
// however busy, so that no event is missed for load. It is bounded three times:
// estimated when a filter is written, counted when it is evaluated, and summed up
// by whoever evaluates for many, in a [Meter].

// Sizes that an estimate assumes of what an expression reads.
const (
	manyFindings = 1000 // of each of an event's lists
	fewElements  = 16   // of any other list or map: aliases, links, labels, names
	textLength   = 256  // of a text
)

// errCost is why a filter was not evaluated to its end: it is over the limit of
// cost. It is not true of the event then.
type errCost struct{ Limit uint64 }

// Error implements error.
func (e *errCost) Error() string {
	return fmt.Sprintf("cel: the expression is over the limit of %d steps for one event", e.Limit)
}

// Meter sums up what evaluations cost. It is safe for concurrent use.
type Meter struct{ spent atomic.Uint64 }

// Spent is the sum so far.
func (m *Meter) Spent() uint64 { return m.spent.Load() }

type meterKey struct{}

// WithMeter returns a context whose evaluations add what they cost to m.
func WithMeter(ctx context.Context, m *Meter) context.Context {
	return context.WithValue(ctx, meterKey{}, m)
}

// spend adds to the meter of ctx, if there is one.
func spend(ctx context.Context, cost uint64) {
	if m, ok := ctx.Value(meterKey{}).(*Meter); ok {
		m.spent.Add(cost)
	}
}

// sizes estimates what an expression reads.
type sizes struct{}

// EstimateSize implements [checker.CostEstimator].
func (sizes) EstimateSize(n checker.AstNode) *checker.SizeEstimate {
	size := uint64(fewElements)
	if path := n.Path(); len(path) > 0 {
		switch path[len(path)-1] {
		case "added", "removed", "revised", "manifests":
			size = manyFindings
		}
	}
	if t := n.Type(); t != nil && (t.Kind() == cel.StringKind || t.Kind() == cel.BytesKind) {
		size = textLength
	}
	return &checker.SizeEstimate{Max: size}
}

// EstimateCallCost implements [checker.CostEstimator].
func (sizes) EstimateCallCost(string, string, *checker.AstNode, []checker.AstNode) *checker.CallEstimate {
	return nil
}

// steps counts what calls cost at run time. cel-go counts by what an expression is
// known to be when it is checked, and nothing is known of an event's data: there,
// joining texts of a megabyte would cost one step.
type steps struct{}

// CallCost implements [interpreter.ActualCostEstimator]: a step, and one for every
// ten bytes of text that are read or made; nil leaves a call to cel-go.
func (steps) CallCost(function, _ string, args []ref.Val, result ref.Val) *uint64 {
	read := uint64(0)
	for _, a := range args {
		read += textSize(a)
	}
	if read == 0 {
		return nil
	}
	read += textSize(result)
	if function == overloads.Matches && len(args) == 2 {
		// Every byte may be looked at by every part of the pattern.
		read = textSize(args[0]) * max(textSize(args[1])/4, 1)
	}
	cost := 1 + read/10
	return &cost
}

func textSize(v ref.Val) uint64 {
	switch v := v.(type) {
	case types.String:
		return uint64(len(v))
	case types.Bytes:
		return uint64(len(v))
	}
	return 0
}
