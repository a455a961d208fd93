package clair_test

import (
	"context"
	"encoding/json"
	"maps"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/quay/claircore"
	"github.com/quay/claircore/enricher/cvss"
	"github.com/quay/claircore/enricher/epss"
	"github.com/quay/claircore/enricher/kev"

	"tocsin.dev/tocsin/internal/clair"
)

// enriched has a report with every enrichment that Tocsin knows.
type enriched struct{ *fixed }

func (e enriched) Scan(ctx context.Context, ir *claircore.IndexReport) (*claircore.VulnerabilityReport, error) {
	r, err := e.fixed.Scan(ctx, ir)
	if err == nil {
		some := []json.RawMessage{json.RawMessage(`{"1":[{}]}`)}
		r.Enrichments = map[string][]json.RawMessage{cvss.Type: some, epss.Type: some, kev.Type: some}
	}
	return r, err
}

// Quay reads every enrichment as CVSS scores, and fails at others.
func TestClairReportsHaveTheCVSSEnrichmentAlone(t *testing.T) {
	t.Parallel()
	f := enriched{newFixed(t)}
	w := httptest.NewRecorder()
	clair.New(clair.Options{Indexer: f, Matcher: f}).ServeHTTP(w, httptest.NewRequest("GET", "/matcher/api/v1/vulnerability_report/"+known.String(), nil))
	var r struct {
		Enrichments map[string]any `json:"enrichments"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if got := slices.Collect(maps.Keys(r.Enrichments)); !slices.Equal(got, []string{cvss.Type}) {
		t.Errorf("the enrichments are %q", got)
	}
}
