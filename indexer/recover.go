package indexer

import (
	"context"
	"fmt"
	"net/http"
	"runtime/debug"

	"github.com/quay/claircore"
	"github.com/quay/claircore/indexer"
)

// What a layer holds is up to whoever made it, and a panic in a scanner of
// claircore would end the process, on every attempt. These stand between the
// two: a panic becomes the error of that scan.

func caught(scanner, layer string, err *error) {
	if p := recover(); p != nil {
		*err = &scannerPanic{scanner: scanner, layer: layer, value: p, stack: debug.Stack()}
	}
}

// scannerPanic is the error of a scan that panicked. The stack is for the log.
type scannerPanic struct {
	scanner, layer string
	value          any
	stack          []byte
}

// Error implements error.
func (e *scannerPanic) Error() string {
	return fmt.Sprintf("the scanner %s failed on layer %s: %v", e.scanner, e.layer, e.value)
}

// configured hands a scanner the configuration that it would get if claircore
// saw it itself.
func configured(ctx context.Context, s indexer.VersionedScanner, f indexer.ConfigDeserializer, c *http.Client) error {
	switch s := s.(type) {
	case indexer.RPCScanner:
		return s.Configure(ctx, f, c)
	case indexer.ConfigurableScanner:
		return s.Configure(ctx, f)
	default:
		return nil
	}
}

type safePackages struct{ indexer.PackageScanner }

func (s safePackages) Scan(ctx context.Context, l *claircore.Layer) (out []*claircore.Package, err error) {
	defer caught(s.Name(), l.Hash.String(), &err)
	return s.PackageScanner.Scan(ctx, l)
}

func (s safePackages) Configure(ctx context.Context, f indexer.ConfigDeserializer, c *http.Client) error {
	return configured(ctx, s.PackageScanner, f, c)
}

// safeDefaults is for package scanners whose packages are of one repository.
type safeDefaults struct {
	safePackages
	indexer.DefaultRepoScanner
}

type safeDistributions struct{ indexer.DistributionScanner }

func (s safeDistributions) Scan(ctx context.Context, l *claircore.Layer) (out []*claircore.Distribution, err error) {
	defer caught(s.Name(), l.Hash.String(), &err)
	return s.DistributionScanner.Scan(ctx, l)
}

func (s safeDistributions) Configure(ctx context.Context, f indexer.ConfigDeserializer, c *http.Client) error {
	return configured(ctx, s.DistributionScanner, f, c)
}

type safeRepositories struct{ indexer.RepositoryScanner }

func (s safeRepositories) Scan(ctx context.Context, l *claircore.Layer) (out []*claircore.Repository, err error) {
	defer caught(s.Name(), l.Hash.String(), &err)
	return s.RepositoryScanner.Scan(ctx, l)
}

func (s safeRepositories) Configure(ctx context.Context, f indexer.ConfigDeserializer, c *http.Client) error {
	return configured(ctx, s.RepositoryScanner, f, c)
}

type safeFiles struct{ indexer.FileScanner }

func (s safeFiles) Scan(ctx context.Context, l *claircore.Layer) (out []claircore.File, err error) {
	defer caught(s.Name(), l.Hash.String(), &err)
	return s.FileScanner.Scan(ctx, l)
}

func (s safeFiles) Configure(ctx context.Context, f indexer.ConfigDeserializer, c *http.Client) error {
	return configured(ctx, s.FileScanner, f, c)
}

// safe puts the guards before every scanner of the ecosystems.
func safe(ecosystems []*indexer.Ecosystem) []*indexer.Ecosystem {
	for _, e := range ecosystems {
		e.PackageScanners = each(e.PackageScanners, func(s indexer.PackageScanner) indexer.PackageScanner {
			if d, ok := s.(indexer.DefaultRepoScanner); ok {
				return safeDefaults{safePackages{s}, d}
			}
			return safePackages{s}
		})
		e.DistributionScanners = each(e.DistributionScanners, func(s indexer.DistributionScanner) indexer.DistributionScanner {
			return safeDistributions{s}
		})
		e.RepositoryScanners = each(e.RepositoryScanners, func(s indexer.RepositoryScanner) indexer.RepositoryScanner {
			return safeRepositories{s}
		})
		e.FileScanners = each(e.FileScanners, func(s indexer.FileScanner) indexer.FileScanner { return safeFiles{s} })
	}
	return ecosystems
}

func each[S any](list func(context.Context) ([]S, error), wrap func(S) S) func(context.Context) ([]S, error) {
	if list == nil {
		return nil
	}
	return func(ctx context.Context) ([]S, error) {
		in, err := list(ctx)
		out := make([]S, len(in))
		for i, s := range in {
			out[i] = wrap(s)
		}
		return out, err
	}
}
