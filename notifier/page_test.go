package notifier

import (
	"testing"

	"github.com/google/uuid"

	"tocsin.dev/tocsin/notifier/eventlog"
	"tocsin.dev/tocsin/schemas"
)

// A notification is not held in memory as a whole, nor stored as one: a page of
// it renders what it holds, and the update writes one row a manifest.
func TestClairD10_PagesRenderWhatTheyHold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const manifests = 1000
	w.manifests(t, manifests)
	sub := w.webhook(t, func(s *schemas.Subscription) {
		s.Config.Granularity, s.Config.Mode = schemas.GranularityUpdate, schemas.ModeClair
	})
	counted := &counting{fewFindings: fewFindings{w.Pool}}
	w.Log.Renderer = counted
	w.mustChange(t, 1)
	id, _ := digestFor(t, w, sub.ID)
	if counted.keys != 0 {
		t.Errorf("the update rendered %d events to be written", counted.keys)
	}
	const size = 10
	changes, more, err := w.Notification(t.Context(), id, uuid.Nil, size)
	if err != nil || len(changes) != size || !more {
		t.Fatalf("%d changes, more %v, %v", len(changes), more, err)
	}
	if most := size + eventlog.RenderBatch; counted.keys > most {
		t.Errorf("a page of %d rendered %d events, want at most %d", size, counted.keys, most)
	}
	if n := w.count(t, `SELECT count(*) FROM tocsin.event WHERE data IS NOT NULL AND type = $1`, schemas.TypeVulnerabilitiesChanged); n != 0 {
		t.Errorf("%d events of manifests have a copy of their data", n)
	}
}
