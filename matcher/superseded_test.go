package matcher_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/quay/claircore"

	"tocsin.dev/tocsin/matcher"
	"tocsin.dev/tocsin/schemas"
)

// means makes a name stand for an image, as the indexer does.
func (w *world) means(name, image string) {
	w.t.Helper()
	_, err := w.pool.Exec(w.t.Context(), `
WITH said AS (UPDATE tocsin.manifest SET named = true WHERE id = @id)
INSERT INTO tocsin.name (name, manifest_id) VALUES (@name, @id) ON CONFLICT (name, platform) DO UPDATE SET manifest_id = excluded.manifest_id`,
		pgx.NamedArgs{"name": name, "id": w.ids[image]})
	if err != nil {
		w.t.Fatal(err)
	}
}

// Events of an image that no name means any more say so: at the moment at which
// each is written, whatever comes later.
func TestEventsOfSuperseded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bash := deb("bash", "5.2", "bash")
	a := w.index("a", bash)
	w.index("b", bash)
	w.index("bare", bash) // no name ever meant it
	w.means("app:1", "a")
	w.means("app:1", "b")
	attributes := func() map[string]string {
		t.Helper()
		rows, err := w.pool.Query(t.Context(), `
SELECT n.names[1], coalesce(l.attributes ->> 'superseded', '') FROM logged_manifest l JOIN tocsin.naming n ON n.id = l.naming_id
WHERE l.change_id = (SELECT max(change_id) FROM logged_manifest)`)
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		var name, said string
		if _, err := pgx.ForEachRow(rows, []any{&name, &said}, func() error { out[name] = said; return nil }); err != nil {
			t.Fatal(err)
		}
		return out
	}
	step := func(what string, want map[string]string, vulns ...*claircore.Vulnerability) {
		t.Helper()
		w.update("debian", vulns...)
		w.process()
		got := attributes()
		if len(got) != 3 {
			t.Fatalf("%s: events of %v", what, got)
		}
		for image, said := range want {
			if got[image] != said {
				t.Errorf("%s: the event of %s says superseded %q, want %q", what, image, got[image], said)
			}
		}
	}
	one, two := debVuln("CVE-2020-0001", "bash", "5.3"), debVuln("CVE-2020-0002", "bash", "5.3")
	step("A → B", map[string]string{"a": "true", "b": "", "bare": ""}, one)
	w.means("app:1", "a")
	step("A → B → A", map[string]string{"a": "", "b": "true", "bare": ""}, one, two)
	w.means("other:1", "b")
	step("another name for B", map[string]string{"a": "", "b": "", "bare": ""}, one)

	w.means("app:1", "b")
	a.Force = true
	if err := w.engine.Indexed(t.Context(), a, w.reports[a.Digest]); err != nil {
		t.Fatal(err)
	}
	events := logged[schemas.IndexedEvent](w, "indexed")
	last := events[len(events)-1]
	if !last.Data.Manifest.Superseded || last.Extensions.Superseded == nil || !*last.Extensions.Superseded {
		t.Errorf("the indexed event is %+v", last)
	}
	if first := events[0]; first.Data.Manifest.Superseded || first.Extensions.Superseded != nil {
		t.Errorf("the first indexed event is %+v", first)
	}
	snapshot, err := w.engine.Snapshot(t.Context(), 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, ev := range snapshot {
		if said, want := ev.Extensions.Superseded != nil, ev.Data.Manifest.Names[0] == "a"; said != want || ev.Data.Manifest.Superseded != want {
			t.Errorf("the snapshot of %s is superseded: %t", ev.Data.Manifest.Names[0], said)
		}
	}
	found, _, err := w.engine.Affected(t.Context(), "CVE-2020-0001", matcher.Page{})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if want := f.Manifest.Names[0] == "a"; f.Manifest.Superseded != want {
			t.Errorf("affected: %s is superseded: %t", f.Manifest.Names[0], f.Manifest.Superseded)
		}
	}
}

// What is retired is not held against updates, and what is indexed again is.
func TestRetired(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bash := deb("bash", "5.2", "bash")
	old := w.index("old", bash)
	w.index("web", bash)
	retire := func() error {
		return pgx.BeginFunc(t.Context(), w.pool, func(tx pgx.Tx) error {
			return w.engine.Retire(t.Context(), tx, func() ([]int32, error) {
				_, err := tx.Exec(t.Context(), `UPDATE tocsin.manifest SET state = 'retired', inventory_id = NULL WHERE id = $1`, old.ID)
				return []int32{old.ID}, err
			})
		})
	}
	if err := retire(); err != nil {
		t.Fatal(err)
	}
	w.update("debian", debVuln("CVE-2020-0001", "bash", "5.3"))
	w.process()
	w.expect("web debian: +CVE-2020-0001@bash")
	// A job that was under way finds it gone.
	if err := w.engine.Indexed(t.Context(), old, w.reports[old.Digest]); err == nil {
		t.Error("the inventory of a retired manifest was recorded")
	}
	if _, err := w.pool.Exec(t.Context(), `UPDATE tocsin.manifest SET state = 'pending' WHERE id = $1`, old.ID); err != nil {
		t.Fatal(err)
	}
	if err := w.engine.Indexed(t.Context(), old, w.reports[old.Digest]); err != nil {
		t.Fatal(err)
	}
	events := logged[schemas.IndexedEvent](w, "indexed")
	if last := events[len(events)-1]; last.Data.Manifest.Names[0] != "old" || last.Data.Vulnerabilities == (schemas.BySeverity{}) {
		t.Errorf("it is back with %+v", last.Data)
	}
	w.update("debian", debVuln("CVE-2020-0001", "bash", "5.3"), debVuln("CVE-2020-0002", "bash", "5.3"))
	w.process()
	w.expect("web debian: +CVE-2020-0001@bash", "old debian: +CVE-2020-0002@bash", "web debian: +CVE-2020-0002@bash")
}
