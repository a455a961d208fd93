package clair

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/quay/claircore"
	"github.com/quay/claircore/datastore"
	"github.com/quay/claircore/libvuln/driver"

	"tocsin.dev/tocsin/matcher"
)

// feeds is a [Matcher].
type feeds struct {
	store  datastore.MatcherStore
	engine *matcher.Engine
}

// Feeds is the matching half of Clair: reports by Tocsin's engine, update
// operations from claircore's store.
func Feeds(store datastore.MatcherStore, engine *matcher.Engine) Matcher { return feeds{store, engine} }

func (c feeds) Scan(ctx context.Context, ir *claircore.IndexReport) (*claircore.VulnerabilityReport, error) {
	return c.engine.Scan(ctx, ir)
}

func (c feeds) Initialized(ctx context.Context) (bool, error) { return c.store.Initialized(ctx) }

func (c feeds) UpdateOperations(ctx context.Context, kind driver.UpdateKind, updaters ...string) (map[string][]driver.UpdateOperation, error) {
	return c.store.GetUpdateOperations(ctx, kind, updaters...)
}

func (c feeds) LatestUpdateOperations(ctx context.Context, kind driver.UpdateKind) (map[string][]driver.UpdateOperation, error) {
	return c.store.GetLatestUpdateRefs(ctx, kind)
}

func (c feeds) LatestUpdateOperation(ctx context.Context, kind driver.UpdateKind) (uuid.UUID, error) {
	ref, err := c.store.GetLatestUpdateRef(ctx, kind)
	if errors.Is(err, pgx.ErrNoRows) {
		return uuid.Nil, nil
	}
	return ref, err
}

func (c feeds) UpdateDiff(ctx context.Context, prev, cur uuid.UUID) (*driver.UpdateDiff, error) {
	return c.store.GetUpdateDiff(ctx, prev, cur)
}

// DeleteUpdateOperations refuses operations that a cursor still needs: the
// difference to the next update is worked out from them.
func (c feeds) DeleteUpdateOperations(ctx context.Context, refs ...uuid.UUID) (int64, error) {
	needed, err := c.engine.Needs(ctx, refs...)
	if err != nil {
		return 0, err
	}
	if needed {
		return 0, fmt.Errorf("%w: the difference to the next update is worked out from it", ErrInUse)
	}
	return c.store.DeleteUpdateOperations(ctx, refs...)
}
