package notifier

import (
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/schemas"
)

// A filter sees all findings of an event, also those that are cut from what is
// sent.
func TestFiltersSeeTheWholeData(t *testing.T) {
	t.Parallel()
	const limit = 32 << 10
	w := newWorld(t, func(o *options) { o.DataLimit = limit })
	w.manifests(t, 3)
	last := schemas.Filter{CEL: `data.added.exists(f, f.id == "CVE-2026-0229")`}
	events := w.webhook(t, nil, last)
	digests := w.webhook(t, func(s *schemas.Subscription) { s.Config.Granularity = schemas.GranularityUpdate }, last)
	none := w.webhook(t, nil, schemas.Filter{CEL: `data.added.exists(f, f.id == "CVE-2026-0230")`})
	w.tx(t, func(tx pgx.Tx) error {
		if err := affected(t.Context(), tx); err != nil {
			return err
		}
		if _, err := tx.Exec(t.Context(), `UPDATE affected_manifest SET inventory_id = 230, added = 230`); err != nil {
			return err
		}
		_, err := w.ManifestsChanged(t.Context(), tx, 1, osv)
		return err
	})
	w.matchAll(t)
	got := w.owed.of(t, events.ID)
	if len(got) != 3 {
		t.Fatalf("%d deliveries, want 3", len(got))
	}
	if id, d := digestFor(t, w, digests.ID); d.Total != 3 || len(manifestsOf(t, w, id, 2)) != 3 {
		t.Errorf("a digest of %d manifests, want 3", d.Total)
	}
	if n := len(w.owed.of(t, none.ID)); n != 0 {
		t.Errorf("%d deliveries of what no event has", n)
	}
	dry, err := w.DryRun(t.Context(), "", schemas.Subscription{Filters: []schemas.Filter{last}}, 0)
	if err != nil || dry.Matched != 3 {
		t.Errorf("a dry run matches %d, %v", dry.Matched, err)
	}
	sent, err := w.Log.Events(t.Context(), []uuid.UUID{got[0]})
	if e := sent[got[0]]; err != nil || len(e.Data()) > limit {
		t.Errorf("%d bytes are sent, %v", len(e.Data()), err)
	}
}
