package api

import (
	"context"
	"fmt"

	"tocsin.dev/tocsin/indexer"
	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/internal/jobs"
	"tocsin.dev/tocsin/matcher"
)

// stats answers httpapi.Stats: each role counts what is its own.
type stats struct {
	ix         *indexer.Indexer
	queue      *jobs.Store
	engine     *matcher.Engine
	deliveries deliveries
}

func (s stats) Stats(ctx context.Context, owner string) (v1.Stats, error) {
	var out v1.Stats
	var err error
	if out.Images, err = s.ix.CountByState(ctx); err != nil {
		return out, fmt.Errorf("count manifests: %w", err)
	}
	if out.Jobs, err = s.queue.CountByState(ctx); err != nil {
		return out, fmt.Errorf("count jobs: %w", err)
	}
	if out.PendingUpdates, err = s.engine.PendingUpdates(ctx); err != nil {
		return out, fmt.Errorf("count pending updates: %w", err)
	}
	taking, err := s.engine.Takeover(ctx)
	if err != nil {
		return out, err
	}
	if taking != nil && taking.Finished == nil {
		out.Takeover = &v1.TakeoverStats{Images: taking.Images, Recorded: taking.Recorded, Failed: taking.Failed, Started: taking.Started}
	}
	if out.Deliveries, out.Subscriptions, err = s.deliveries.stats(ctx, owner); err != nil {
		return out, fmt.Errorf("sum up deliveries: %w", err)
	}
	return out, nil
}
