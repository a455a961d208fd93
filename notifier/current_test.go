package notifier

import (
	"encoding/json"
	"testing"

	"tocsin.dev/tocsin/schemas"
)

// Current sends one subscription what its filters let through, marked as a
// snapshot, and nobody else anything.
func TestCurrent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	high := w.webhook(t, nil, schemas.Filter{SQL: "severityrank >= 4"})
	data := w.webhook(t, nil, schemas.Filter{CEL: "data.vulnerabilities.critical > 0"})
	other := w.webhook(t, func(s *schemas.Subscription) { s.Types = nil })
	manifest := func(id int32, rank int32, critical int) schemas.IndexedEvent {
		return schemas.IndexedEvent{
			ManifestID: id, InventoryID: int64(id),
			Data: schemas.ManifestIndexed{
				Manifest: schemas.Manifest{Digest: "sha256:" + string(rune('a'+id)), Names: []string{"registry/app:1"}},
				Packages: 1, Vulnerabilities: schemas.BySeverity{Critical: critical}, Snapshot: true,
			},
			Extensions: schemas.Extensions{SeverityRank: &rank},
		}
	}
	there := []schemas.IndexedEvent{manifest(1, 5, 1), manifest(2, 2, 0)}
	for _, id := range []string{high.ID, data.ID} {
		n, err := w.Notifier.Current(ctx, "", id, there)
		if err != nil || n != 1 {
			t.Fatalf("sent %d, %v", n, err)
		}
		got := w.owed.of(t, id)
		if len(got) != 1 {
			t.Fatalf("deliveries %v", got)
		}
		e, err := w.Log.Event(ctx, got[0])
		if err != nil {
			t.Fatal(err)
		}
		var d schemas.ManifestIndexed
		if err := json.Unmarshal(e.Data(), &d); err != nil || !d.Snapshot || d.Vulnerabilities.Critical != 1 || e.Type() != schemas.TypeManifestIndexed {
			t.Errorf("the event is %s, %v", e, err)
		}
	}
	if got := w.owed.of(t, other.ID); len(got) != 0 {
		t.Errorf("another got %v", got)
	}
	// A filter on an image's name holds for any of its names.
	prod := w.webhook(t, nil, schemas.Filter{Prefix: map[string]string{"image": "prod/"}})
	promoted := manifest(3, 0, 0)
	promoted.Data.Manifest.Names = []string{"dev/app:1", "prod/app:1"}
	if n, err := w.Notifier.Current(ctx, "", prod.ID, append(there, promoted)); n != 1 || err != nil {
		t.Errorf("of an image that was promoted: %d, %v", n, err)
	}
	if n, err := w.Notifier.Current(ctx, "", high.ID, there[1:]); n != 0 || err != nil {
		t.Errorf("of nothing that matches: %d, %v", n, err)
	}
}
