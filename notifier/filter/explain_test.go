package filter

import (
	"context"
	"slices"
)

// Explain is Match that says why a filter could not be evaluated.
func (s *Set) Explain(ctx context.Context, e *Event) (bool, error) {
	all, fault := allOf(append(slices.Clone(s.attrs), s.data...)), error(nil)
	ok := e.under(func(e *Event) bool {
		ok, err := all.eval(ctx, e)
		if fault == nil {
			fault = err
		}
		return ok && err == nil
	})
	if ok {
		return true, nil
	}
	return false, fault
}
