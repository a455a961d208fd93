package notifier

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/uuid"

	"tocsin.dev/tocsin/schemas"
)

// Clair's disable_summary: a notification holds every finding once, whatever
// the size of its pages.
func TestClairNotificationOfEveryFinding(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const manifests = 30
	w.manifests(t, manifests)
	sub := w.webhook(t, func(s *schemas.Subscription) {
		s.Config.Granularity, s.Config.Mode = schemas.GranularityUpdate, schemas.ModeClair
	})
	w.Log.Renderer = severalFindings{fewFindings{w.Pool}}
	w.mustChange(t, 1)
	id, _ := digestFor(t, w, sub.ID)
	for every, want := range map[bool]int{false: 2, true: 4} {
		w.EveryFinding = every
		for _, size := range []int{1, 3, 4, 7, 500} {
			seen := map[string]int{}
			ids := map[uuid.UUID]bool{}
			for after := uuid.Nil; ; {
				changes, more, err := w.Notification(t.Context(), id, after, size)
				if err != nil || len(changes) == 0 && more {
					t.Fatalf("%d changes, more %v, %v", len(changes), more, err)
				}
				for _, c := range changes {
					seen[c.Manifest+c.Reason+c.Worst.ID]++
					ids[c.ID] = true
					after = c.ID
				}
				if !more {
					break
				}
			}
			if len(seen) != manifests*want || len(ids) != manifests*want {
				t.Errorf("every finding %v, size %d: %d findings with %d ids, want %d of each", every, size, len(seen), len(ids), manifests*want)
			}
			for what, n := range seen {
				if n != 1 {
					t.Errorf("every finding %v, size %d: %s %d times", every, size, what, n)
				}
			}
		}
	}
}

// severalFindings is a Renderer that says of each manifest that two findings
// were added, one revised and one removed.
type severalFindings struct{ fewFindings }

func (r severalFindings) RenderChanges(ctx context.Context, keys []schemas.ChangeKey, limit int) ([]schemas.VulnerabilitiesChanged, error) {
	out, err := r.fewFindings.RenderChanges(ctx, keys, limit)
	for i := range out {
		f := out[i].Added[0]
		named := func(n int) schemas.Finding {
			c := f
			c.ID = fmt.Sprintf("CVE-2026-%d", n)
			return c
		}
		out[i].Added = []schemas.Finding{named(1), named(2)}
		out[i].Revised = []schemas.RevisedFinding{{Finding: named(3)}}
		out[i].Removed = []schemas.Finding{named(4)}
	}
	return out, err
}
