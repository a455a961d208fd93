package app

import (
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"tocsin.dev/tocsin/internal/bus/bustest"
	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/internal/postgres/postgrestest"
)

var update = flag.Bool("update", false, "write docs/metrics.md and the dashboard anew")

const metricsFile = "../../docs/metrics.md"

// TestMetrics holds the table of docs/metrics.md to what a process has, and the
// alerts and the dashboard to that table.
func TestMetrics(t *testing.T) {
	t.Parallel()
	names, table := metricsTable(t)
	page := readFile(t, metricsFile)
	before, rest, _ := strings.Cut(page, "<!-- metrics -->\n")
	_, after, found := strings.Cut(rest, "<!-- /metrics -->\n")
	if !found {
		t.Fatalf("%s has no place for the table", metricsFile)
	}
	want := before + "<!-- metrics -->\n" + table + "<!-- /metrics -->\n" + after
	if *update {
		if err := os.WriteFile(metricsFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if page != want {
		t.Errorf("%s is not what there is: make docs", metricsFile)
	}

	if got, want := readFile(t, dashboardFile), dashboard(t); *update {
		if err := os.WriteFile(dashboardFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if got != want {
		t.Errorf("%s is not what the code says: make docs", dashboardFile)
	}

	used := regexp.MustCompile(`\btocsin_[a-z_0-9]+`)
	for _, file := range []string{"rules.yaml", "rules_test.yaml", "dashboard.json"} {
		for _, name := range used.FindAllString(readFile(t, "../../deploy/observability/"+file), -1) {
			base := name
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				base = strings.TrimSuffix(base, suffix)
			}
			if !slices.Contains(names, name) && !slices.Contains(names, base) {
				t.Errorf("%s speaks of %s, which there is not", file, name)
			}
		}
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var description = regexp.MustCompile(`^Desc\{fqName: "([^"]*)", help: "((?:[^"\\]|\\.)*)", unit: "[^"]*", constLabels: \{([^}]*)\}, variableLabels: \{([^}]*)\}\}$`)

// metricsTable describes every metric of a process of ours.
func metricsTable(t *testing.T) (names []string, table string) {
	c := Defaults()
	c.DataDir = t.TempDir()
	c.Updaters.Sets = []string{"osv"}
	a := New(c, v1.Version{Version: "test"}, slog.New(slog.DiscardHandler), nil)
	if _, err := a.services(t.Context(), postgrestest.New(t), bustest.New(t)); err != nil {
		t.Fatal(err)
	}
	var open [2]net.Listener
	for i := range open {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		open[i] = l
	}
	if _, err := a.limit(open[0], open[1]); err != nil {
		t.Fatal(err)
	}
	descriptions := make(chan *prometheus.Desc)
	go func() {
		defer close(descriptions)
		a.registry.Describe(descriptions)
	}()
	rows := map[string]string{}
	for d := range descriptions {
		m := description.FindStringSubmatch(d.String())
		if m == nil {
			t.Errorf("cannot read %s", d)
			continue
		}
		if !strings.HasPrefix(m[1], "tocsin_") {
			continue // of the Go runtime, the process and the pool
		}
		labels := strings.Split(m[4], ",")
		for l := range strings.SplitSeq(m[3], ",") {
			name, _, _ := strings.Cut(l, "=")
			labels = append(labels, name)
		}
		labels = slices.DeleteFunc(labels, func(l string) bool { return l == "" })
		for i, l := range labels {
			labels[i] = "`" + l + "`"
		}
		if m[2] == "" {
			t.Errorf("%s says nothing of itself", m[1])
		}
		rows[m[1]] = fmt.Sprintf("| `%s` | %s | %s |\n", m[1], strings.Join(labels, " "), strings.ReplaceAll(m[2], `\"`, `"`))
		names = append(names, m[1])
	}
	slices.Sort(names)
	var b strings.Builder
	b.WriteString("| metric | labels | what it says |\n|---|---|---|\n")
	for _, n := range slices.Compact(names) {
		b.WriteString(rows[n])
	}
	return names, b.String()
}
