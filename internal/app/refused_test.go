package app

import (
	"errors"
	"fmt"
	"testing"

	"tocsin.dev/tocsin/indexer"
	"tocsin.dev/tocsin/internal/httpapi"
	"tocsin.dev/tocsin/notifier"
)

func TestRefusalsSayTheirKindOnce(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		err, kind, cause error
		want             string
	}{
		{notifierError(fmt.Errorf("subscription 1 is disabled; resume it first: %w", notifier.ErrConflict)), httpapi.ErrConflict, notifier.ErrConflict,
			"subscription 1 is disabled; resume it first"},
		{notifierError(fmt.Errorf("subscription 1: %w", notifier.ErrNotFound)), httpapi.ErrNotFound, notifier.ErrNotFound, "subscription 1: not found"},
		{indexerError(indexer.ErrNotFound), httpapi.ErrNotFound, indexer.ErrNotFound, "no such manifest"},
	} {
		if tc.err.Error() != tc.want || !errors.Is(tc.err, tc.kind) || !errors.Is(tc.err, tc.cause) {
			t.Errorf("%q, want %q", tc.err, tc.want)
		}
	}
}
