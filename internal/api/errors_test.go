package api

import (
	"errors"
	"testing"

	"tocsin.dev/tocsin/indexer"
	"tocsin.dev/tocsin/internal/httpapi"
	"tocsin.dev/tocsin/internal/problem"
)

func TestRefusalsSayTheirKindOnce(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		err, kind, cause error
		want             string
	}{
		{problem.New(problem.Conflict, "subscription 1 is disabled; resume it first"), httpapi.ErrConflict, problem.Conflict,
			"subscription 1 is disabled; resume it first"},
		{problem.New(problem.NotFound, "subscription 1: not found"), httpapi.ErrNotFound, problem.NotFound, "subscription 1: not found"},
		{indexerError(indexer.ErrNotFound), httpapi.ErrNotFound, indexer.ErrNotFound, "no such manifest"},
	} {
		if tc.err.Error() != tc.want || !errors.Is(tc.err, tc.kind) || !errors.Is(tc.err, tc.cause) {
			t.Errorf("%q, want %q", tc.err, tc.want)
		}
	}
}
