package indexer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/quay/claircore"
	"github.com/quay/claircore/indexer"

	"tocsin.dev/tocsin/indexer/ecosystem"
	"tocsin.dev/tocsin/indexer/sandbox"
	"tocsin.dev/tocsin/internal/text"
)

// confined runs scanners where they can do no harm, and makes of what they can't
// read a note that the image's index is partial.
type confined struct {
	// scan runs a scanner over a layer that has been fetched.
	scan     func(context.Context, *claircore.Layer, sandbox.Request) (sandbox.Result, error)
	mappings map[scannerOf]*mapping
	log      *slog.Logger
}

// run scans a layer. What can't be read, and won't be another time, is noted
// and passed over; errors are of this machine and may pass.
func (c *confined) run(ctx context.Context, s indexer.VersionedScanner, l *claircore.Layer) (sandbox.Result, error) {
	layer := l.Hash.String()
	if attemptFrom(ctx).knownUnread(s, layer) {
		return sandbox.Result{}, nil
	}
	req := sandbox.Request{Kind: s.Kind(), Name: s.Name()}
	out, err := c.scan(ctx, l, req)
	if errors.Is(err, sandbox.ErrAsk) {
		if req.Mapping, err = c.mappings[scannerKey(s)].path(ctx); err != nil {
			if ctx.Err() != nil {
				return sandbox.Result{}, context.Cause(ctx)
			}
			attemptFrom(ctx).degrade(s, layer, fmt.Sprintf("this image needs a mapping file of Red Hat that can't be had (%s); findings of Red Hat products are missing", err))
			return sandbox.Result{}, nil
		}
		out, err = c.scan(ctx, l, req)
	}
	if err == nil {
		if n := keepStorable(&out, s.Name() != ecosystem.Files{}.Name()); n > 0 {
			attemptFrom(ctx).unread(s, layer, false, fmt.Sprintf("%d of what it found there can't be stored: a name is no text, or too long", n))
		}
		return out, nil
	}
	if lost, ok := errors.AsType[*sandbox.LostError](err); ok {
		c.log.WarnContext(ctx, "scan given up", "scanner", s.Name(), "layer", layer, "reason", lost.Reason)
		return sandbox.Result{}, attemptFrom(ctx).giveUp(s, layer, lost.Reason)
	}
	failure, ok := errors.AsType[*sandbox.Failure](err)
	if !ok || failure.Kind == sandbox.Passing {
		return sandbox.Result{}, fmt.Errorf("scanner %s on layer %s: %w", s.Name(), layer, err)
	}
	if failure.Kind == sandbox.Panicked {
		c.log.ErrorContext(ctx, "panic in a scanner", "scanner", s.Name(), "layer", layer, "panic", failure.Text, "stack", failure.Stack)
		attemptFrom(ctx).unread(s, layer, true, "the scanner failed: "+text.Cut(failure.Text, maxReason))
		return sandbox.Result{}, nil
	}
	attemptFrom(ctx).unread(s, layer, true, text.Cut(failure.Text, maxReason))
	return sandbox.Result{}, nil
}

// maxReason bounds what is kept of a scanner's error, in bytes.
const maxReason = 500

type confinedPackages struct {
	indexer.PackageScanner
	by *confined
}

func (s confinedPackages) Scan(ctx context.Context, l *claircore.Layer) ([]*claircore.Package, error) {
	out, err := s.by.run(ctx, s.PackageScanner, l)
	return out.Packages, err
}

// confinedDefaults is for package scanners whose packages are of one repository.
type confinedDefaults struct {
	confinedPackages
	indexer.DefaultRepoScanner
}

type confinedDistributions struct {
	indexer.DistributionScanner
	by *confined
}

func (s confinedDistributions) Scan(ctx context.Context, l *claircore.Layer) ([]*claircore.Distribution, error) {
	out, err := s.by.run(ctx, s.DistributionScanner, l)
	return out.Distributions, err
}

type confinedRepositories struct {
	indexer.RepositoryScanner
	by *confined
}

func (s confinedRepositories) Scan(ctx context.Context, l *claircore.Layer) ([]*claircore.Repository, error) {
	out, err := s.by.run(ctx, s.RepositoryScanner, l)
	return out.Repositories, err
}

type confinedFiles struct {
	indexer.FileScanner
	by *confined
}

func (s confinedFiles) Scan(ctx context.Context, l *claircore.Layer) ([]claircore.File, error) {
	out, err := s.by.run(ctx, s.FileScanner, l)
	return out.Files, err
}

// confine puts c before every scanner of the ecosystems.
func (c *confined) confine(ecosystems []*indexer.Ecosystem) []*indexer.Ecosystem {
	for _, e := range ecosystems {
		e.PackageScanners = each(e.PackageScanners, func(s indexer.PackageScanner) indexer.PackageScanner {
			if d, ok := s.(indexer.DefaultRepoScanner); ok {
				return confinedDefaults{confinedPackages{s, c}, d}
			}
			return confinedPackages{s, c}
		})
		e.DistributionScanners = each(e.DistributionScanners, func(s indexer.DistributionScanner) indexer.DistributionScanner {
			return confinedDistributions{s, c}
		})
		e.RepositoryScanners = each(e.RepositoryScanners, func(s indexer.RepositoryScanner) indexer.RepositoryScanner {
			return confinedRepositories{s, c}
		})
		e.FileScanners = each(e.FileScanners, func(s indexer.FileScanner) indexer.FileScanner { return confinedFiles{s, c} })
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
