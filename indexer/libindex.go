package indexer

import (
	"context"
	"fmt"
	"net/http"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/quay/claircore/datastore/postgres"
	"github.com/quay/claircore/indexer"
	"github.com/quay/claircore/indexer/controller"
	"github.com/quay/claircore/libindex"
	"github.com/quay/claircore/whiteout"

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

// ecosystems are all there are, with the scanners that read layers. Listings
// may be nil where nothing is coalesced.
func ecosystems(ctx context.Context, listings ecosystem.Listings) ([]*indexer.Ecosystem, error) {
	rhelEco, rhccEco, err := redHat(ctx)
	if err != nil {
		return nil, err
	}
	// claircore adds the last one itself, but not where it could be confined; of
	// two scanners with one name it takes the first.
	return append(ecosystem.All(ctx, listings, rhelEco, rhccEco), whiteout.NewEcosystem(ctx)), nil
}

// newLibindex makes claircore's indexer, whose scanners are run by c.
func newLibindex(ctx context.Context, pool *pgxpool.Pool, a *arena, c *confined, layers int) (*libindex.Libindex, error) {
	store := &libStore{postgres.NewIndexerStore(pool), pool}
	list, err := ecosystems(ctx, store)
	if err != nil {
		return nil, err
	}
	opts := &libindex.Options{
		Store:                store,
		Locker:               &locker{pool},
		FetchArena:           a,
		LayerScanConcurrency: layers,
		Ecosystems:           c.confine(list),
		// What a whiteout takes is left out before the reports of the ecosystems
		// are merged: afterwards only one path of a package is known.
		ControllerFactory: func(o *indexer.Options) *controller.Controller {
			own := *o
			own.Resolvers = nil
			return controller.New(&own)
		},
	}
	lib, err := libindex.New(ctx, opts, scannerClient())
	if err != nil {
		return nil, fmt.Errorf("claircore's indexer: %w", err)
	}
	return lib, nil
}

// scannerClient is for what scanners ask of the network: addresses from the
// configuration, not from images. It gives up early where nobody answers, since
// a scanner may ask once for every file.
func scannerClient() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.ResponseHeaderTimeout = mappingTimeout
	return &http.Client{Transport: &failFast{next: t}}
}
