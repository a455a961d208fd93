package notifier

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/notifier/eventlog"
	"tocsin.dev/tocsin/schemas"
)

// A server that moves reads its old events as they were, byte for byte, and
// writes new ones with its new address.
func TestEventsKeepTheirLinks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *options) { o.PublicURL = "https://old.example" })
	w.manifests(t, 5)
	w.mustChange(t, 1)
	w.tx(t, func(tx pgx.Tx) error { return w.UpdateCompleted(t.Context(), tx, schemas.UpdateCompleted{Update: osv}) })
	read := func(l *eventlog.Log, skip map[uuid.UUID]string) map[uuid.UUID]string {
		t.Helper()
		rows, err := w.Pool.Query(t.Context(), `SELECT id FROM tocsin.event`)
		if err != nil {
			t.Fatal(err)
		}
		ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		if err != nil {
			t.Fatal(err)
		}
		events, err := l.Events(t.Context(), ids)
		if err != nil {
			t.Fatal(err)
		}
		out := map[uuid.UUID]string{}
		for id, e := range events {
			text, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			if skip[id] == "" {
				out[id] = string(text)
			}
		}
		return out
	}
	before := read(w.Log, nil)
	if len(before) != 7 {
		t.Fatalf("%d events, want 5, their digest and the update", len(before))
	}
	for _, text := range before {
		if !strings.Contains(text, `"dataschema":"https://old.example/schemas/`) {
			t.Errorf("not with the address: %s", text)
		}
	}
	moved := replica(t, w.Pool, func(o *options) { o.PublicURL = "https://new.example/" })
	after := read(moved.Log, nil)
	if !maps.Equal(before, after) {
		t.Errorf("read otherwise after the move:\n%v\n%v", before, after)
	}
	moved.mustChange(t, 2)
	fresh := read(w.Log, before)
	if len(fresh) != 6 {
		t.Errorf("%d new events, want 6", len(fresh))
	}
	for _, text := range fresh {
		if strings.Contains(text, "old.example") || !strings.Contains(text, "https://new.example/schemas/") || !strings.Contains(text, `"all":"https://new.example/api/v1/events/`) {
			t.Errorf("a new event with the old address: %s", text)
		}
	}
	// The same address again is the same row.
	again := replica(t, w.Pool, func(o *options) { o.PublicURL = "https://old.example" })
	again.mustChange(t, 3)
	if n := w.count(t, `SELECT count(*) FROM tocsin.base_url`); n != 2 {
		t.Errorf("%d addresses noted, want 2", n)
	}
}
