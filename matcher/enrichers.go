package matcher

import (
	"github.com/quay/claircore/enricher/cvss"
	"github.com/quay/claircore/enricher/epss"
	"github.com/quay/claircore/enricher/kev"
	"github.com/quay/claircore/libvuln/driver"
)

// defaultEnrichers are claircore's own; they only read here.
func defaultEnrichers() []driver.Enricher {
	return []driver.Enricher{&cvss.Enricher{}, &epss.Enricher{}, &kev.Enricher{}}
}

// Names of the enrichers, which are those of their updaters.
var (
	cvssName = (*cvss.Enricher)(nil).Name()
	epssName = (*epss.Enricher)(nil).Name()
	kevName  = (*kev.Enricher)(nil).Name()
)
