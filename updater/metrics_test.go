package updater

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestMetrics(t *testing.T) {
	t.Parallel()
	m := newMirror(t)
	m.osv(t, 3, "Go", "npm")
	reg := prometheus.NewRegistry()
	b := newBench(t, m.config("osv"), func(o *Options) { o.Registerer = reg })
	if err := b.run("osv"); err != nil {
		t.Fatal(err)
	}
	m.put("/npm/all.zip", []byte("no zip"))
	if err := b.run("osv"); err == nil {
		t.Fatal("a broken feed was taken")
	}
	want := `
# HELP tocsin_updater_runs_total Runs of updaters in this process by how they ended: updated, unchanged or failed.
# TYPE tocsin_updater_runs_total counter
tocsin_updater_runs_total{result="failed",set="osv"} 1
tocsin_updater_runs_total{result="unchanged",set="osv"} 1
tocsin_updater_runs_total{result="updated",set="osv"} 2
# HELP tocsin_updater_rows Vulnerabilities, or records of an enricher, of an updater's data when this process last ran it.
# TYPE tocsin_updater_rows gauge
tocsin_updater_rows{set="osv",updater="osv/go"} 3
tocsin_updater_rows{set="osv",updater="osv/npm"} 3
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "tocsin_updater_runs_total", "tocsin_updater_rows"); err != nil {
		t.Error(err)
	}
}
