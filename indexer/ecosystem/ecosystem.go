package ecosystem

import (
	"context"

	"github.com/quay/claircore"
	"github.com/quay/claircore/gobin"
	"github.com/quay/claircore/indexer"
	"github.com/quay/claircore/java"
	"github.com/quay/claircore/linux"
	"github.com/quay/claircore/nodejs"
	"github.com/quay/claircore/python"
	"github.com/quay/claircore/rpm"
	"github.com/quay/claircore/ruby"
)

// All returns every ecosystem there is, those of Red Hat as they are given.
// What their coalescers are handed is what survives of every layer.
func All(ctx context.Context, listings Listings, redHat ...*indexer.Ecosystem) []*indexer.Ecosystem {
	all := append([]*indexer.Ecosystem{
		linuxOf("dpkg", func(context.Context) ([]indexer.PackageScanner, error) {
			return []indexer.PackageScanner{Dpkg{}, Distroless{}}, nil
		}),
		linuxOf("alpine", func(context.Context) ([]indexer.PackageScanner, error) {
			return []indexer.PackageScanner{Apk{}}, nil
		}),
		linuxOf("rpm", rpm.NewEcosystem(ctx).PackageScanners),
		python.NewEcosystem(ctx), java.NewEcosystem(ctx), gobin.NewEcosystem(ctx), ruby.NewEcosystem(ctx), nodejs.NewEcosystem(ctx),
	}, redHat...)
	for _, e := range all {
		stock := e.Coalescer
		e.Coalescer = func(ctx context.Context) (indexer.Coalescer, error) {
			c, err := stock(ctx)
			return &surviving{c, listings}, err
		}
	}
	return append(all, listing())
}

// linuxOf is an ecosystem of a distribution's packages.
func linuxOf(name string, packages func(context.Context) ([]indexer.PackageScanner, error)) *indexer.Ecosystem {
	return &indexer.Ecosystem{
		Name:            name,
		PackageScanners: packages,
		DistributionScanners: func(context.Context) ([]indexer.DistributionScanner, error) {
			return []indexer.DistributionScanner{Release{}}, nil
		},
		RepositoryScanners: none[indexer.RepositoryScanner],
		Coalescer:          func(context.Context) (indexer.Coalescer, error) { return linux.NewCoalescer(), nil },
	}
}

// listing is the ecosystem that has every layer's files listed, and adds
// nothing to a report.
func listing() *indexer.Ecosystem {
	return &indexer.Ecosystem{
		Name:                 "files",
		PackageScanners:      none[indexer.PackageScanner],
		DistributionScanners: none[indexer.DistributionScanner],
		RepositoryScanners:   none[indexer.RepositoryScanner],
		FileScanners:         func(context.Context) ([]indexer.FileScanner, error) { return []indexer.FileScanner{Files{}}, nil },
		Coalescer:            func(context.Context) (indexer.Coalescer, error) { return nothing{}, nil },
	}
}

func none[S any](context.Context) ([]S, error) { return nil, nil }

type nothing struct{}

// Coalesce implements [indexer.Coalescer].
func (nothing) Coalesce(context.Context, []*indexer.LayerArtifacts) (*claircore.IndexReport, error) {
	return &claircore.IndexReport{}, nil
}
