package indexer

import (
	"time"

	"tocsin.dev/tocsin/indexer/sandbox"
)

// Limits bound what a manifest and its layers may cost. A zero field means the
// default of [DefaultLimits].
type Limits struct {
	// MaxLayers is how many layers a manifest may have.
	MaxLayers int
	// MaxLayerBytes bounds one layer as it is transferred, MaxUnpackedBytes as
	// it is after decompression, and MaxEntries the files and directories in
	// it, which claircore holds in memory.
	MaxLayerBytes    int64
	MaxUnpackedBytes int64
	MaxEntries       int
	// LayerTimeout bounds the transfer of one layer, StallTimeout the silence
	// within it.
	LayerTimeout time.Duration
	StallTimeout time.Duration
	// IndexTimeout bounds one attempt at one manifest, transfers included.
	IndexTimeout time.Duration
	// ResolveTimeout bounds asking a registry what a reference stands for.
	ResolveTimeout time.Duration
}

// Defaults are the options with which an indexer works unless told otherwise.
func Defaults() Options {
	return Options{
		Limits: Limits{
			MaxLayers:        500,
			MaxLayerBytes:    4 << 30,
			MaxUnpackedBytes: 16 << 30,
			MaxEntries:       500_000,
			LayerTimeout:     20 * time.Minute,
			StallTimeout:     30 * time.Second,
			IndexTimeout:     time.Hour,
			ResolveTimeout:   time.Minute,
		},
		Scans: sandbox.Defaults(), Concurrency: 2, LayerConcurrency: 10, MaintainEvery: 15 * time.Second,
	}
}

func (l Limits) withDefaults() Limits {
	d := Defaults().Limits
	fill(&l.MaxLayers, d.MaxLayers)
	fill(&l.MaxLayerBytes, d.MaxLayerBytes)
	fill(&l.MaxUnpackedBytes, d.MaxUnpackedBytes)
	fill(&l.MaxEntries, d.MaxEntries)
	fill(&l.LayerTimeout, d.LayerTimeout)
	fill(&l.StallTimeout, d.StallTimeout)
	fill(&l.IndexTimeout, d.IndexTimeout)
	fill(&l.ResolveTimeout, d.ResolveTimeout)
	return l
}

func fill[T int | int64 | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// Limits on what a request may say. They keep rows and events small; nobody
// has asked to change them.
const (
	maxNames       = 64
	maxNameBytes   = 1024
	maxLabels      = 64
	maxLabelKey    = 128
	maxLabelValue  = 1024
	maxHeaders     = 16       // of one layer
	maxHeaderBytes = 16 << 10 // of one layer, names and values
)
