package app

import (
	"time"

	"tocsin.dev/tocsin/delivery"
	"tocsin.dev/tocsin/indexer"
	"tocsin.dev/tocsin/indexer/blobs"
	"tocsin.dev/tocsin/internal/bus"
	"tocsin.dev/tocsin/internal/config"
	"tocsin.dev/tocsin/internal/jobs"
	"tocsin.dev/tocsin/matcher"
	"tocsin.dev/tocsin/notifier/eventlog"
	"tocsin.dev/tocsin/updater"
)

// Defaults are the configuration with nothing configured: what package config
// decides by itself, and of each role what its package does unless told otherwise.
func Defaults() config.Config {
	c := config.Default()
	s := bus.DefaultStreams()
	c.NATS.MaxStore, c.NATS.Replicas = bus.DefaultMaxStore, s.Replicas
	c.NATS.IntakeMaxBytes, c.NATS.EventsMaxBytes, c.NATS.EventsMaxAge = config.Size(s.IntakeMaxBytes), config.Size(s.EventsMaxBytes), config.Duration(s.EventsMaxAge)

	j, p := jobs.Defaults(), jobs.DefaultPolicy()
	c.Jobs = config.Jobs{
		MaxAttempts: p.MaxAttempts, MinBackoff: config.Duration(p.MinBackoff), MaxBackoff: config.Duration(p.MaxBackoff),
		KeepDone: config.Duration(j.KeepDone), KeepFailed: config.Duration(j.KeepFailed),
	}

	i := indexer.Defaults()
	l := i.Limits
	c.Indexer = config.Indexer{
		Concurrency: i.Concurrency, LayerConcurrency: i.LayerConcurrency, RetireAfter: c.Indexer.RetireAfter, MaxUploads: blobs.DefaultMaxTotal,
		MaxLayers: l.MaxLayers, MaxLayerSize: config.Size(l.MaxLayerBytes), MaxUnpackedSize: config.Size(l.MaxUnpackedBytes), MaxEntries: l.MaxEntries,
		LayerTimeout: config.Duration(l.LayerTimeout), StallTimeout: config.Duration(l.StallTimeout),
		IndexTimeout: config.Duration(l.IndexTimeout), ResolveTimeout: config.Duration(l.ResolveTimeout),
		ScanTimeout: config.Duration(i.Scans.Timeout), ScanDisk: config.Size(i.Scans.Disk), // memory depends on the machine
	}

	u := updater.Defaults()
	c.Updaters = config.Updaters{
		Concurrency: u.Concurrency, SetConcurrency: u.SetConcurrency, Fetches: u.Fetches, StaleAfter: config.Duration(u.StaleAfter), MaxDrop: u.MaxDrop,
		Limits: config.UpdateLimits{
			Response: config.Size(u.Limits.Response), Unpacked: config.Size(u.Limits.Unpacked), Entry: config.Size(u.Limits.Entry),
			Requests: u.Limits.Requests, Probes: u.Limits.Probes, Import: c.Updaters.Limits.Import,
			Stall: config.Duration(u.Limits.Stall), Updater: config.Duration(u.Limits.Updater), Set: config.Duration(u.Limits.Set),
		},
	}

	c.Matcher.EPSSThreshold, c.Matcher.Retention = matcher.DefaultEPSSThreshold, matcher.DefaultRetention
	e := eventlog.Defaults()
	c.Notifier.EventSize, c.Notifier.Retention = config.Size(e.DataLimit), config.Duration(e.Retention)

	d := delivery.Defaults()
	b := d.Config.Breaker
	c.Delivery = config.Delivery{
		Schedule: durations(d.Config.Schedule), Jitter: d.Config.Jitter, Timeout: config.Duration(d.Config.Timeout),
		Concurrency: d.Config.Concurrency, Rate: d.Config.Rate,
		Breaker: config.Breaker{
			ConsecutiveFailures: b.ConsecutiveFailures, FailureRatio: b.FailureRatio, Window: config.Duration(b.Window), MinAttempts: b.MinAttempts,
			OpenFor: config.Duration(b.OpenFor), MaxOpenFor: config.Duration(b.MaxOpenFor), DisableAfter: config.Duration(b.DisableAfter),
		},
		Retention: config.Duration(d.Retention), Drain: config.Duration(d.Drain), CacheSize: config.Size(d.CacheBytes), Conns: d.Conns,
	}
	return c
}

func durations(d []time.Duration) []config.Duration {
	out := make([]config.Duration, len(d))
	for i := range d {
		out[i] = config.Duration(d[i])
	}
	return out
}
