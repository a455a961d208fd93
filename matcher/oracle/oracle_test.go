package oracle

import (
	"flag"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"tocsin.dev/tocsin/internal/postgres/postgrestest"
)

var (
	seedsFlag = flag.Int("oracle.seeds", 0, "how many scenarios to play; 0: 2000, under the race detector 300, with -short 200")
	seedFlag  = flag.Uint64("oracle.seed", 0, "the first scenario's seed")
	budget    = flag.Duration("oracle.budget", 5*time.Minute, "start no more scenarios after this long, unless -oracle.seeds says how many")
)

func seeds() int {
	switch {
	case *seedsFlag > 0:
		return *seedsFlag
	case testing.Short():
		return 200
	case raceEnabled:
		return 300
	}
	return 2000
}

const (
	// chunk is how many scenarios share a database, one after the other, so
	// that each meets what earlier ones left behind.
	chunk = 40
	// enough scenarios reach everything the generator is meant to reach.
	enough = 560
	// shown is how many differences of a chunk are told in full.
	shown = 3
)

// TestOracle holds the engine's events against the difference of libvuln's
// reports, over many scenarios.
func TestOracle(t *testing.T) {
	n, first, start := seeds(), *seedFlag, time.Now()
	var mu sync.Mutex
	var total Coverage
	t.Run("scenarios", func(t *testing.T) {
		for from := 0; from < n; from += chunk {
			lo, hi := first+uint64(from), first+uint64(min(from+chunk, n))
			t.Run(fmt.Sprintf("%d-%d", lo, hi-1), func(t *testing.T) {
				t.Parallel()
				if *seedsFlag == 0 && time.Since(start) > *budget {
					return // the log says how many were played
				}
				c := playAll(t, lo, hi)
				mu.Lock()
				defer mu.Unlock()
				total.Merge(c)
			})
		}
	})
	t.Logf("%d of %d scenarios from seed %d, %d updates, %d events; %d updates chained; "+
		"manifests: %d indexed in flight, %d of them while the engine worked, %d of those between two updates; %d re-indexed",
		total.Scenarios, n, first, total.Updates, total.Events, total.Chained, total.InFlight, total.Together, total.Between, total.Reindexed)
	t.Logf("%d changes of enrichments revised findings: %d by KEV, %d by EPSS, %d by CVSS", total.Enriched, total.Exploited, total.Likely, total.Rescored)
	t.Logf("said of superseded manifests: %d; of coverage: %v", total.Superseded, total.Covered)
	for _, part := range []struct {
		what string
		of   map[string]int
	}{{"added", total.Added}, {"removed", total.Removed}, {"revised", total.Revised}} {
		t.Logf("findings %s: %v", part.what, part.of)
	}
	if total.Scenarios < enough || t.Failed() {
		return
	}
	for _, e := range append(ecosystems(), ecosystem{name: sharedName}) {
		for what, of := range map[string]map[string]int{"added": total.Added, "removed": total.Removed, "revised": total.Revised} {
			if of[e.name] == 0 {
				t.Errorf("no finding of %s was ever %s: the scenarios prove nothing about it", e.name, what)
			}
		}
	}
	if total.Exploited == 0 || total.Likely == 0 || total.Rescored == 0 {
		t.Error("an enrichment never changed a finding")
	}
	if total.Superseded == 0 || total.Covered["full"] == 0 || total.Covered["partial"] == 0 || total.Covered["none"] == 0 {
		t.Errorf("of superseded images %d things were said, of coverage %v", total.Superseded, total.Covered)
	}
	if total.Chained == 0 || total.InFlight == 0 || total.Together == 0 || total.Reindexed == 0 {
		t.Error("no update was chained, no manifest indexed in flight or while the engine worked, or none re-indexed")
	}
}

func playAll(t *testing.T, lo, hi uint64) Coverage {
	ctx := t.Context()
	w, err := NewSetup(ctx, postgrestest.New(t))
	if err != nil {
		t.Fatal(err)
	}
	var total Coverage
	told := 0
	for seed := lo; seed < hi; seed++ {
		s := Generate(seed)
		wrong, c, err := w.Play(ctx, s)
		total.Merge(c)
		replay := fmt.Sprintf("go test ./matcher/oracle -run TestOracle -oracle.seeds=1 -oracle.seed=%d", seed)
		if err != nil {
			t.Fatalf("seed %d: %v\nreplay: %s", seed, err, replay)
		}
		if len(wrong) > 0 {
			t.Errorf("%s\n(and %d more)\nreplay: %s\nwith what came before it: -oracle.seeds=%d -oracle.seed=%d",
				s.Describe(wrong[0])+others(wrong[1:]), len(wrong)-1, replay, seed-lo+1, lo)
			if told++; told == shown {
				t.FailNow()
			}
		}
	}
	return total
}

// TestSameSeedSameScenario is what makes a failing seed worth printing.
func TestSameSeedSameScenario(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		a, b := fingerprint(Generate(seed)), fingerprint(Generate(seed))
		if a != b {
			t.Fatalf("seed %d generates two scenarios:\n%s\n%s", seed, a, b)
		}
	}
	if fingerprint(Generate(1)) == fingerprint(Generate(2)) {
		t.Error("two seeds generate the same scenario")
	}
}

func fingerprint(s *Scenario) string {
	out := s.Describe(Mismatch{Step: -1})
	for _, r := range s.Reports {
		out += contents(r)
	}
	return out
}

// TestScanTogether checks the oracle's own short cut: many reports in one Scan
// say what each says alone.
func TestScanTogether(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	w, err := NewSetup(ctx, postgrestest.New(t))
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for seed := range uint64(28) {
		s := Generate(seed)
		for _, step := range s.Steps {
			if step.Update == nil {
				continue
			}
			if _, err := w.write(ctx, step.Update); err != nil {
				t.Fatal(err)
			}
			together, err := scan(ctx, w.scanner, s.Reports, w.known)
			if err != nil {
				t.Fatal(err)
			}
			for i, r := range s.Reports {
				alone, err := scanOne(ctx, w.scanner, r, w.known)
				if err != nil {
					t.Fatal(err)
				}
				found += len(alone)
				if !maps.EqualFunc(alone, together[i], maps.Equal[map[Verdict]bool, map[Verdict]bool]) {
					t.Fatalf("seed %d, %s: alone\n%s together\n%s", seed, r.Hash, alone, together[i])
				}
			}
		}
	}
	if found == 0 {
		t.Error("no report had a finding")
	}
}

func others(ms []Mismatch) (s string) {
	for _, m := range ms {
		s += fmt.Sprintf("\n  step %d, %s: %s", m.Step, m.Digest, m.Text)
	}
	return s
}
