package app

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"tocsin.dev/tocsin/delivery"
	"tocsin.dev/tocsin/indexer"
	"tocsin.dev/tocsin/internal/config"
	"tocsin.dev/tocsin/internal/jobs"
	"tocsin.dev/tocsin/matcher"
	"tocsin.dev/tocsin/updater"
)

// TestDefaultsAreThePackages: what the configuration has where nothing is
// configured is what each package does when it is told nothing.
func TestDefaultsAreThePackages(t *testing.T) {
	t.Parallel()
	c := config.Default()
	for name, pair := range map[string][2]any{
		"jobs":            {jobPolicy(c.Jobs), jobs.DefaultPolicy()},
		"jobs: kept done": {c.Jobs.KeepDone.Std(), jobs.DefaultKeepDone},
		"jobs: failed":    {c.Jobs.KeepFailed.Std(), jobs.DefaultKeepFailed},
		"indexer":         {indexerLimits(c.Indexer), indexer.DefaultLimits()},
		"updaters":        {UpdaterConfig(c), updater.Defaults()},
		"matcher: EPSS":   {c.Matcher.EPSSThreshold, matcher.DefaultEPSSThreshold},
		"matcher: kept":   {c.Matcher.Retention, matcher.DefaultRetention},
		"delivery":        {deliveryConfig(c.Delivery).WithDefaults(), delivery.Config{}.WithDefaults()},
	} {
		if diff := cmp.Diff(pair[1], pair[0]); diff != "" {
			t.Errorf("%s: the configuration differs from the package (-package +configuration):\n%s", name, diff)
		}
	}
}
