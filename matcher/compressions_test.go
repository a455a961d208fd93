package matcher_test

import (
	"slices"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/matcher"
	"tocsin.dev/tocsin/schemas"
)

// twins makes images one in several compressions, as the indexer does.
func (w *world) twins(images ...matcher.Manifest) {
	w.t.Helper()
	for _, m := range images {
		if _, err := w.pool.Exec(w.t.Context(), `UPDATE tocsin.manifest SET image = 'x', config = 'c', twinned = true WHERE id = $1`, m.ID); err != nil {
			w.t.Fatal(err)
		}
	}
}

// One image in two compressions is told once: when it is indexed under the same
// names, and when it changes; by the one that a name stands for.
func TestCompressionsAreToldOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bash := deb("bash", "5.2", "bash")
	gz, zs := w.manifest("gzip"), w.manifest("zstd")
	w.twins(gz, zs)
	// Both at the same time, under one name.
	for _, m := range []*matcher.Manifest{&gz, &zs} {
		if _, err := w.pool.Exec(t.Context(), `UPDATE tocsin.naming SET names = '{app:1}' WHERE id = $1`, m.NamingID); err != nil {
			t.Fatal(err)
		}
		m.Names = []string{"app:1"}
	}
	var wg sync.WaitGroup
	for _, m := range []matcher.Manifest{gz, zs} {
		wg.Go(func() {
			if err := w.engine.Indexed(t.Context(), m, report(m.Names[0], bash)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if events := logged[schemas.IndexedEvent](w, "indexed"); len(events) != 1 {
		t.Fatalf("%d indexed events, want 1", len(events))
	}
	told := func() (out []string) {
		t.Helper()
		rows, err := w.pool.Query(t.Context(), `SELECT m.digest FROM logged_manifest l JOIN tocsin.manifest m ON m.id = l.manifest_id
WHERE l.change_id = (SELECT max(change_id) FROM logged_manifest) ORDER BY m.id`)
		if err != nil {
			t.Fatal(err)
		}
		if out, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
			t.Fatal(err)
		}
		return out
	}
	expect := func(what string, want ...matcher.Manifest) {
		t.Helper()
		var digests []string
		for _, m := range want {
			digests = append(digests, m.Digest)
		}
		if got := told(); !slices.Equal(got, digests) {
			t.Errorf("%s: told of %q, want %q", what, got, digests)
		}
	}
	one, two := debVuln("CVE-2020-0001", "bash", "5.3"), debVuln("CVE-2020-0002", "bash", "5.3")
	w.update("debian", one)
	w.process()
	expect("no name stands for either", gz)
	w.means("app:1", "zstd")
	w.update("debian", one, two)
	w.process()
	expect("the name stands for the second", zs)
	snapshot, err := w.engine.Snapshot(t.Context(), 0, 10)
	if err != nil || len(snapshot) != 1 || snapshot[0].Data.Manifest.Digest != zs.Digest {
		t.Errorf("the snapshot is %+v, %v", snapshot, err)
	}

	// A name that the other does not have is news.
	other := w.manifest("other")
	w.twins(other)
	if err := w.engine.Indexed(t.Context(), other, report("other", bash)); err != nil {
		t.Fatal(err)
	}
	events := logged[schemas.IndexedEvent](w, "indexed")
	also := []string{gz.Digest, zs.Digest}
	slices.Sort(also)
	if last := events[len(events)-1]; len(events) != 2 || last.Data.Manifest.Digest != other.Digest || !slices.Equal(last.Data.Manifest.Also, also) {
		t.Fatalf("%d indexed events, the last %+v", len(events), last.Data.Manifest)
	}
	// One that holds something else is told of for itself: the scanners that
	// read it were others.
	if err := w.engine.Indexed(t.Context(), other, report("other", bash, deb("zlib1g", "1", "zlib"))); err != nil {
		t.Fatal(err)
	}
	w.update("debian", two)
	w.process()
	expect("one holds more", zs, other)
	// Nor is anything lost with the one that told.
	if err := w.engine.Forget(t.Context(), zs.ID); err != nil {
		t.Fatal(err)
	}
	w.update("debian", one)
	w.process()
	expect("the one that told is gone", gz, other)
}

// Of three of which the first is one with the second and the second with the
// third, none is lost.
func TestCompressionsInARow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bash := deb("bash", "5.2", "bash")
	a, b, c := w.index("a", bash), w.index("b", bash), w.index("c", bash)
	w.twins(a, b, c)
	for m, of := range map[int32][2]string{a.ID: {"X", "1"}, b.ID: {"", "2"}, c.ID: {"Y", "1"}} {
		if _, err := w.pool.Exec(t.Context(), `UPDATE tocsin.manifest SET config = @config, spec = jsonb_build_object('layers', jsonb_build_array(jsonb_build_object('hash', @layer::text))) WHERE id = @id`,
			pgx.NamedArgs{"config": of[0], "layer": of[1], "id": m}); err != nil {
			t.Fatal(err)
		}
	}
	w.sharedNames("a", "b", "c")
	w.update("debian", debVuln("CVE-2020-0001", "bash", "5.3"))
	w.process()
	w.expect("a debian: +CVE-2020-0001@bash", "c debian: +CVE-2020-0001@bash")
}

// Whoever filters by a name or a label that only one of two compressions has,
// hears of it.
func TestCompressionsWithLabelsOfTheirOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bash := deb("bash", "5.2", "bash")
	a, b := w.index("a", bash), w.index("b", bash)
	w.twins(a, b)
	w.update("debian", debVuln("CVE-2020-0001", "bash", "5.3"))
	w.process()
	w.expect("a debian: +CVE-2020-0001@bash", "b debian: +CVE-2020-0001@bash")
	w.sharedNames("a", "b")
	if _, err := w.pool.Exec(t.Context(), `UPDATE tocsin.naming SET labels = '{"team":"payments"}' WHERE names[1] = 'b'`); err != nil {
		t.Fatal(err)
	}
	w.update("debian", debVuln("CVE-2020-0001", "bash", "5.3"), debVuln("CVE-2020-0002", "bash", "5.4"))
	w.process()
	w.expect("a debian: +CVE-2020-0001@bash", "b debian: +CVE-2020-0001@bash", "a debian: +CVE-2020-0002@bash", "b debian: +CVE-2020-0002@bash")
}

// sharedNames gives every image the names of all, its own first, as the indexer
// does with compressions of one image.
func (w *world) sharedNames(names ...string) {
	w.t.Helper()
	if _, err := w.pool.Exec(w.t.Context(), `UPDATE tocsin.naming SET names = ARRAY[names[1]] || @names::text[] WHERE names[1] = ANY(@names)`,
		pgx.NamedArgs{"names": names}); err != nil {
		w.t.Fatal(err)
	}
}
