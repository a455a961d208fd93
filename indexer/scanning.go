package indexer

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/quay/claircore"
	"github.com/quay/claircore/indexer"

	"tocsin.dev/tocsin/indexer/sandbox"
)

// ServeScans is the first call of a program that makes an [Indexer]: layers are
// scanned in child processes that run this program again. In any other process
// it returns at once.
func ServeScans() { sandbox.Main(newScanner) }

// setup is what a child is told of the configuration.
type setup struct {
	Package, Dist, Repo, File map[string]json.RawMessage
}

// newSetup writes the configuration of the scanners down.
func newSetup(o Scanners) ([]byte, error) {
	var s setup
	for _, kind := range []struct {
		from map[string]func(any) error
		to   *map[string]json.RawMessage
	}{{o.Package, &s.Package}, {o.Dist, &s.Dist}, {o.Repo, &s.Repo}, {o.File, &s.File}} {
		*kind.to = map[string]json.RawMessage{}
		for name, decode := range kind.from {
			var v any
			if err := decode(&v); err != nil {
				return nil, fmt.Errorf("configuration of scanner %s: %w", name, err)
			}
			b, err := json.Marshal(v)
			if err != nil {
				return nil, fmt.Errorf("configuration of scanner %s: %w", name, err)
			}
			(*kind.to)[name] = b
		}
	}
	return json.Marshal(s)
}

func (s setup) scanners() Scanners {
	var o Scanners
	for _, kind := range []struct {
		from map[string]json.RawMessage
		to   *map[string]func(any) error
	}{{s.Package, &o.Package}, {s.Dist, &o.Dist}, {s.Repo, &o.Repo}, {s.File, &o.File}} {
		*kind.to = map[string]func(any) error{}
		for name, b := range kind.from {
			(*kind.to)[name] = func(into any) error { return json.Unmarshal(b, into) }
		}
	}
	return o
}

// newScanner makes the scanners proper, configured. It is what a child runs.
func newScanner(ctx context.Context, text []byte) (sandbox.Scanner, error) {
	var s setup
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, fmt.Errorf("configuration of scanners: %w", err)
	}
	o, client := s.scanners(), scannerClient()
	list, err := ecosystems(ctx, nil)
	if err != nil {
		return nil, err
	}
	ps, ds, rs, fs, err := indexer.EcosystemsToScanners(ctx, list)
	if err != nil {
		return nil, err
	}
	known := map[scannerOf]indexer.VersionedScanner{}
	config := map[string]map[string]func(any) error{"package": o.Package, "distribution": o.Dist, "repository": o.Repo, "file": o.File}
	for _, sc := range indexer.MergeVS(ps, ds, rs, fs) {
		if err := configure(ctx, sc, config[sc.Kind()][sc.Name()], client); err != nil {
			return nil, fmt.Errorf("configuration of scanner %s: %w", sc.Name(), err)
		}
		known[scannerKey(sc)] = sc
	}
	return func(ctx context.Context, r sandbox.Request, l *claircore.Layer) (out sandbox.Result, err error) {
		if r.Mapping != "" {
			ctx = context.WithValue(ctx, mappingKey{}, r.Mapping)
		}
		switch sc := known[scannerOf{r.Name, r.Kind}].(type) {
		case indexer.PackageScanner:
			out.Packages, err = sc.Scan(ctx, l)
		case indexer.DistributionScanner:
			out.Distributions, err = sc.Scan(ctx, l)
		case indexer.RepositoryScanner:
			out.Repositories, err = sc.Scan(ctx, l)
		case indexer.FileScanner:
			out.Files, err = sc.Scan(ctx, l)
		default:
			err = fmt.Errorf("no scanner %s of kind %s", r.Name, r.Kind)
		}
		return out, err
	}, nil
}

// configure hands a scanner its configuration as claircore does.
func configure(ctx context.Context, s indexer.VersionedScanner, f indexer.ConfigDeserializer, c *http.Client) error {
	if f == nil {
		f = func(any) error { return nil }
	}
	switch s := s.(type) {
	case *mapped[claircore.Package], *mapped[claircore.Repository]:
		return nil // read when the scanner proper is made
	case indexer.RPCScanner:
		return s.Configure(ctx, f, c)
	case indexer.ConfigurableScanner:
		return s.Configure(ctx, f)
	default:
		return nil
	}
}
