package app

import (
	"tocsin.dev/tocsin/delivery"
	"tocsin.dev/tocsin/indexer"
	"tocsin.dev/tocsin/internal/config"
	"tocsin.dev/tocsin/internal/jobs"
)

// These are parts of the configuration as the packages take them, and
// [Defaults] is the way back. Package config knows no other, so that it links
// without claircore.

func jobPolicy(c config.Jobs) jobs.Policy {
	return jobs.Policy{MaxAttempts: c.MaxAttempts, MinBackoff: c.MinBackoff.Std(), MaxBackoff: c.MaxBackoff.Std()}
}

func indexerLimits(c config.Indexer) indexer.Limits {
	return indexer.Limits{
		MaxLayers: c.MaxLayers, MaxLayerBytes: int64(c.MaxLayerSize), MaxUnpackedBytes: int64(c.MaxUnpackedSize), MaxEntries: c.MaxEntries,
		LayerTimeout: c.LayerTimeout.Std(), StallTimeout: c.StallTimeout.Std(), IndexTimeout: c.IndexTimeout.Std(), ResolveTimeout: c.ResolveTimeout.Std(),
	}
}

func deliveryConfig(c config.Delivery) delivery.Config {
	return delivery.Config{
		Schedule: config.Durations(c.Schedule), Jitter: jitter(c.Jitter), Timeout: c.Timeout.Std(), Rate: c.Rate, Concurrency: c.Concurrency,
		Breaker: delivery.BreakerConfig{
			ConsecutiveFailures: c.Breaker.ConsecutiveFailures, FailureRatio: c.Breaker.FailureRatio, Window: c.Breaker.Window.Std(),
			MinAttempts: c.Breaker.MinAttempts, OpenFor: c.Breaker.OpenFor.Std(), MaxOpenFor: c.Breaker.MaxOpenFor.Std(),
			DisableAfter: c.Breaker.DisableAfter.Std(),
		},
	}
}
