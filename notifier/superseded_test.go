package notifier

import (
	"encoding/json"
	"testing"

	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/notifier/eventlog"
	"tocsin.dev/tocsin/schemas"
)

// An event about a superseded image says so, in its attributes and in its data.
// A subscription gets it unless its filters leave it out.
func TestSupersededImages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.manifests(t, 3)
	all := w.webhook(t, nil)
	not := schemas.Filter{Not: &schemas.Filter{Exact: map[string]string{"superseded": "true"}}}
	current := w.webhook(t, nil, not)
	digests := w.webhook(t, func(s *schemas.Subscription) { s.Config.Granularity = schemas.GranularityUpdate }, not)
	data := w.webhook(t, nil, schemas.Filter{CEL: `has(data.manifest) && has(data.manifest.superseded) && data.manifest.superseded`})
	w.tx(t, func(tx pgx.Tx) error {
		if err := affected(t.Context(), tx); err != nil {
			return err
		}
		if _, err := tx.Exec(t.Context(), `UPDATE affected_manifest SET attributes = '{"superseded": true}' WHERE manifest_id = 2`); err != nil {
			return err
		}
		_, err := w.ManifestsChanged(t.Context(), tx, 1, osv)
		return err
	})
	w.matchAll(t)
	for _, c := range []struct {
		name, id string
		want     int
	}{{"no filter", all.ID, 3}, {"without superseded", current.ID, 2}, {"a filter over the data", data.ID, 1}, {"digests", digests.ID, 1}} {
		if got := len(w.owed.of(t, c.id)); got != c.want {
			t.Errorf("%s: %d deliveries, want %d", c.name, got, c.want)
		}
	}
	if _, d := digestFor(t, w, digests.ID); d.Total != 2 {
		t.Errorf("the digest is of %d images, want 2", d.Total)
	}
	page, err := w.Log.List(t.Context(), eventlog.Query{Types: []string{schemas.TypeVulnerabilitiesChanged}})
	if err != nil || len(page.Items) != 3 {
		t.Fatal(page, err)
	}
	n := 0
	for _, e := range page.Items {
		validateEvent(t, e)
		var d schemas.VulnerabilitiesChanged
		if err := json.Unmarshal(e.Data(), &d); err != nil {
			t.Fatal(err)
		}
		said := e.Extensions()["superseded"]
		if d.Manifest.Superseded != (said == true) {
			t.Errorf("attribute %v, data %t", said, d.Manifest.Superseded)
		}
		if d.Manifest.Superseded {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d events are about superseded images, want 1", n)
	}
}
