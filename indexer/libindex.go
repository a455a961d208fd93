package indexer

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/quay/claircore/datastore/postgres"
	"github.com/quay/claircore/indexer"
	"github.com/quay/claircore/indexer/controller"
	"github.com/quay/claircore/libindex"

	"tocsin.dev/tocsin/indexer/ecosystem"
)

// Scanners configures claircore's scanners, by kind and name, in claircore's
// own keys: each function decodes into what the scanner hands it.
type Scanners struct {
	Package, Dist, Repo, File map[string]func(any) error
}

// configure fills into from the configuration of one scanner, if there is any.
func (Scanners) configure(kind map[string]func(any) error, name string, into any) error {
	f, ok := kind[name]
	if !ok {
		return nil
	}
	if err := f(into); err != nil {
		return fmt.Errorf("configuration of scanner %s: %w", name, err)
	}
	return nil
}

// newLibindex makes claircore's indexer with every ecosystem it has.
func newLibindex(ctx context.Context, pool *pgxpool.Pool, a *arena, o Scanners, mappings string, log *slog.Logger) (*libindex.Libindex, []*mapping, error) {
	client := scannerClient()
	rhelEco, rhccEco, maps, err := redHat(ctx, o, mappings, client, log)
	if err != nil {
		return nil, nil, err
	}
	store := &libStore{postgres.NewIndexerStore(pool), pool}
	opts := &libindex.Options{
		Store:      store,
		Locker:     &locker{pool},
		FetchArena: a,
		Ecosystems: safe(ecosystem.All(ctx, store, rhelEco, rhccEco)),
		// What a whiteout takes is left out before the reports of the ecosystems
		// are merged: afterwards only one path of a package is known.
		ControllerFactory: func(o *indexer.Options) *controller.Controller {
			own := *o
			own.Resolvers = nil
			return controller.New(&own)
		},
	}
	opts.ScannerConfig.Package, opts.ScannerConfig.Dist = without(o.Package, containerScanner), o.Dist
	opts.ScannerConfig.Repo, opts.ScannerConfig.File = without(o.Repo, repositoryScanner), o.File
	lib, err := libindex.New(ctx, opts, client)
	if err != nil {
		return nil, nil, fmt.Errorf("claircore's indexer: %w", err)
	}
	return lib, maps, nil
}

// without leaves out the scanner whose configuration has been used already.
func without(config map[string]func(any) error, name string) map[string]func(any) error {
	config = maps.Clone(config)
	delete(config, name)
	return config
}

// scannerClient is for what scanners ask of the network: addresses from the
// configuration, not from images. It gives up early where nobody answers, since
// a scanner may ask once for every file.
func scannerClient() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.ResponseHeaderTimeout = mappingTimeout
	return &http.Client{Transport: &failFast{next: t}}
}
