package eventlog

import (
	"encoding/json"
	"strings"
	"testing"

	"tocsin.dev/tocsin/schemas"
)

func TestFitKeepsTheMostSevereOfAllLists(t *testing.T) {
	t.Parallel()
	f := func(severity string) schemas.Finding {
		return schemas.Finding{ID: severity, NormalizedSeverity: severity, Description: strings.Repeat("x", 500)}
	}
	d := schemas.VulnerabilitiesChanged{
		Added:   []schemas.Finding{f("Medium"), f("Low")},
		Removed: []schemas.Finding{f("Critical"), f("Low")},
		Revised: []schemas.RevisedFinding{{Finding: f("High")}, {Finding: f("Unknown")}},
	}
	whole, err := fit(d, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for limit := len(whole); limit > 900; limit -= 100 {
		text, err := fit(d, limit)
		if err != nil || len(text) > limit {
			t.Fatalf("%d bytes over %d, %v", len(text), limit, err)
		}
		var got schemas.VulnerabilitiesChanged
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		var kept []string
		for _, x := range got.Removed {
			kept = append(kept, x.ID)
		}
		for _, x := range got.Revised {
			kept = append(kept, x.ID)
		}
		for _, x := range got.Added {
			kept = append(kept, x.ID)
		}
		all := strings.Join(kept, " ")
		if got.Truncated == (len(kept) == 6) {
			t.Errorf("%d kept, truncated %t", len(kept), got.Truncated)
		}
		if len(kept) == 3 && all != "Critical High Medium" || len(kept) == 2 && all != "Critical High" {
			t.Errorf("limit %d keeps %s", limit, all)
		}
	}
}

func TestFitShortensWhatWouldLeaveNoRoom(t *testing.T) {
	t.Parallel()
	text, err := fit(schemas.VulnerabilitiesChanged{Added: []schemas.Finding{
		{ID: "one", NormalizedSeverity: "High", Description: strings.Repeat("ä", 100_000)}, {ID: "two", NormalizedSeverity: "Low"},
	}}, 8<<10)
	if err != nil {
		t.Fatal(err)
	}
	var got schemas.VulnerabilitiesChanged
	if err := json.Unmarshal(text, &got); err != nil || len(got.Added) != 2 || !got.Truncated || !strings.HasSuffix(got.Added[0].Description, "ä…") {
		t.Errorf("%d bytes, %d findings, %v", len(text), len(got.Added), err)
	}
}
