package matcher_test

import (
	"fmt"
	"testing"

	"github.com/quay/claircore"

	"tocsin.dev/tocsin/schemas"
)

// However many packages a change touches, the rows that it announces say what
// its events say.
func TestRowsAgreeWithEvents(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		packages int
		prepare  string
	}{
		{"few packages", 20, ""},
		{"many packages", 300, ""},
		{"many packages with ids far apart", 300, `ALTER TABLE tocsin.occurrence ALTER COLUMN id RESTART WITH 100000000`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			items := make([]item, c.packages)
			for i := range items {
				items[i] = deb(fmt.Sprint("bin", i), "1.0", fmt.Sprint("src", i))
			}
			w.index("half", items[:c.packages/2]...)
			if c.prepare != "" {
				if _, err := w.pool.Exec(t.Context(), c.prepare); err != nil {
					t.Fatal(err)
				}
			}
			w.index("all", items...)
			w.index("last", items[c.packages-1])
			w.index("none", deb("bash", "5.2", "bash"))
			w.enrich("clair.kev", kevRecord("CVE-2020-1001"))
			w.enrich("clair.epss", epssRecord("CVE-2020-1001", 0.875), epssRecord("CVE-2020-1002", 0.5))
			w.process()

			vulns := func(state int) (out []*claircore.Vulnerability) {
				for i := range items {
					if (i+state)%3 == 0 {
						continue
					}
					fixed := ""
					if i%5 == 0 && state > 0 {
						fixed = "2"
					}
					out = append(out, debVuln(fmt.Sprint("CVE-2020-", 1000+i), fmt.Sprint("src", i), fixed, severity(claircore.Severity(i%6))))
				}
				return out
			}
			for state := range 2 {
				w.update("debian", vulns(state)...)
				w.process()
			}
			rows, events := w.rows(), w.events()
			if len(rows) < 5 {
				t.Fatalf("%d events, want at least 5", len(rows))
			}
			for i, r := range rows {
				ev := events[i]
				var want row
				want.Added, want.Removed, want.Revised = len(ev.Added), len(ev.Removed), len(ev.Revised)
				says := func(f schemas.Finding) {
					want.SeverityRank = max(want.SeverityRank, int16(schemas.SeverityRank(f.NormalizedSeverity)))
					want.Fixable = want.Fixable || f.FixedInVersion != ""
					want.KEV = want.KEV || f.KEV
					if f.EPSS != nil {
						score := int16(f.EPSS.Score*100 + 0.999)
						if want.EPSS == nil || score > *want.EPSS {
							want.EPSS = &score
						}
					}
				}
				for _, f := range ev.Added {
					says(f)
				}
				for _, f := range ev.Revised {
					says(f.Finding)
				}
				if len(ev.Added)+len(ev.Revised) == 0 {
					for _, f := range ev.Removed {
						says(f)
					}
					want.EPSS = nil
				}
				got := r
				got.ChangeID, got.InventoryID, got.NamingID, got.ManifestID = 0, 0, 0, 0
				if a, b := asJSON(t, got), asJSON(t, want); a != b {
					t.Errorf("%s: row says %s, event says %s", ev.Manifest.Names[0], a, b)
				}
				if ev.Manifest.Names[0] == "none" {
					t.Error("an image without the packages has an event")
				}
			}
			if c := events[len(events)-1].Counts; c.Added+c.Removed+c.Revised == 0 {
				t.Error("the last event is about nothing")
			}
		})
	}
}
