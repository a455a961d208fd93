package schemas

import "time"

// How much of what is in an image any data could speak of.
const (
	CoverageFull    = "full"
	CoveragePartial = "partial"
	CoverageNone    = "none"
)

// Coverage says of which packages of a manifest something could be known: that
// nothing is known against a package means something only if a feed speaks of
// its distribution or its ecosystem.
type Coverage struct {
	// State is "full" if every package is covered, as where there is none;
	// "none" if no package is, or if a distribution's were not found; "partial"
	// otherwise.
	State      string              `json:"state"`
	Ecosystems []EcosystemCoverage `json:"ecosystems"`
}

// EcosystemCoverage is the coverage of one distribution or language ecosystem
// found in a manifest. Packages without a version that could be compared, as a
// program's own, are not counted.
type EcosystemCoverage struct {
	// Name is a distribution's ("Debian GNU/Linux 12 (bookworm)") or a
	// repository's ("npm").
	Name     string `json:"name"`
	Packages int    `json:"packages"`
	Covered  int    `json:"covered"`
	// Feeds are those that speak of it.
	Feeds []CoveringFeed `json:"feeds"`
	// Reason says why packages are not covered.
	Reason string `json:"reason,omitempty"`
}

// CoveringFeed is a vulnerability feed and how fresh it is: Date is when its
// updater last found it up to date, or else when its data were stored.
type CoveringFeed struct {
	Updater string    `json:"updater"`
	Date    time.Time `json:"date"`
}

// Uncovered is how many packages nothing can be known of.
func (c Coverage) Uncovered() int {
	n := 0
	for _, e := range c.Ecosystems {
		n += e.Packages - e.Covered
	}
	return n
}

// Degraded returns the coverage of an image parts of which could not be read.
func (c Coverage) Degraded(warnings []string) Coverage {
	if len(warnings) > 0 && c.State == CoverageFull {
		c.State = CoveragePartial
	}
	return c
}
