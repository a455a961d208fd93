package indexer

import (
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/schemas"
)

// superseded lists which of the images, called by what they are made from, are
// superseded.
func (r *rig) superseded(t *testing.T, of ...string) (out []string) {
	t.Helper()
	for _, name := range of {
		img, err := r.Get(t.Context(), digestOf([]byte("manifest of "+name)))
		if err != nil {
			t.Fatal(err)
		}
		if img.Superseded {
			out = append(out, name)
		}
	}
	return out
}

// named hands in the image made from what with names, on a platform if that is
// not "".
func (r *rig) named(t *testing.T, what, platform string, names ...string) string {
	t.Helper()
	req := one(t, what)
	req.Names = names
	if platform != "" {
		req.Labels = map[string]string{platformLabel: platform}
	}
	return r.submit(t, req).Digest
}

// An image is superseded once no name means it any more, and not for longer.
func TestSuperseded(t *testing.T) {
	t.Parallel()
	r := newPlace(t).newRig(t, nil)
	check := func(want ...string) {
		t.Helper()
		if got := r.superseded(t, "a", "b", "c", "amd64", "arm64", "bare", "claimed"); !slices.Equal(got, want) {
			t.Errorf("superseded are %q, want %q", got, want)
		}
	}
	// All of them are there before anything is superseded.
	r.named(t, "a", "", "app:1")
	r.named(t, "bare", "")
	r.named(t, "c", "", "other:1")
	r.named(t, "amd64", "linux/amd64", "multi:1")
	r.named(t, "arm64", "linux/arm64", "multi:1")
	// A name that a registry was asked for can't be claimed: nothing was ever
	// meant by the image, so nothing supersedes it.
	if _, err := r.pool.Exec(t.Context(), `INSERT INTO tocsin.name (name, manifest_id, verified) SELECT 'verified:1', id, true FROM tocsin.manifest WHERE digest = $1`,
		digestOf([]byte("manifest of a"))); err != nil {
		t.Fatal(err)
	}
	r.named(t, "claimed", "", "verified:1")
	r.named(t, "b", "", "app:0")
	check()
	if _, err := r.pool.Exec(t.Context(), `DELETE FROM tocsin.name WHERE name = 'verified:1'`); err != nil {
		t.Fatal(err)
	}
	r.named(t, "a", "", "also:1")
	r.named(t, "b", "", "app:1")
	check() // a is also:1 still
	r.named(t, "b", "", "also:1")
	check("a")
	r.named(t, "a", "", "app:1", "app:0", "also:1") // back to A
	check("b")
	r.named(t, "c", "linux/amd64", "multi:1")
	check("b", "amd64") // arm64 was not named anew
	if _, err := r.Delete(t.Context(), digestOf([]byte("manifest of a"))); err != nil {
		t.Fatal(err)
	}
	r.named(t, "a", "") // without a name: it is not what a name stood for
	check("b", "amd64")
	images, err := r.List(t.Context(), Filter{Name: "app:*"})
	if err != nil || len(images) == 0 {
		t.Fatal(images, err)
	}
	for _, img := range images {
		if want := img.Digest == digestOf([]byte("manifest of b")); img.Superseded != want {
			t.Errorf("the list has %s superseded: %t", img.Names, img.Superseded)
		}
	}
}

// An image that no name means is retired in its time, once, and is back when it
// is handed in again; one that never had a name, and one whose name came back,
// are not.
func TestRetire(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	r := p.newRig(t, func(o *Options) { o.RetireAfter = time.Hour; o.MaintainEvery = 50 * time.Millisecond }).run(t)
	other := p.newRig(t, func(o *Options) { o.RetireAfter = time.Hour; o.MaintainEvery = 50 * time.Millisecond }).run(t)
	bare := r.named(t, "bare", "")
	old := r.named(t, "old", "", "app:1")
	back := r.named(t, "back", "", "back:1")
	for _, d := range []string{bare, old, back} {
		r.wait(t, d)
	}
	now := other.named(t, "new", "", "app:1", "back:1")
	r.wait(t, now)
	noted := func(digest string) (at *time.Time) {
		if err := r.pool.QueryRow(t.Context(), `SELECT superseded_at FROM tocsin.manifest WHERE digest = $1`, digest).Scan(&at); err != nil {
			t.Fatal(err)
		}
		return at
	}
	eventually(t, "both are noted as superseded", func() bool { return noted(old) != nil && noted(back) != nil })
	if img, err := r.Get(t.Context(), old); err != nil || img.State != StateIndexed || !img.Superseded {
		t.Errorf("before its time it is %+v, %v", img, err)
	}
	r.named(t, "back", "", "back:1")
	if noted(back) != nil {
		t.Error("its name came back, and it is still noted as superseded")
	}
	// An hour passes. What is wrongly noted is put right first.
	if _, err := r.pool.Exec(t.Context(), `UPDATE tocsin.manifest SET superseded_at = now() - interval '61 minutes'`); err != nil {
		t.Fatal(err)
	}
	state := func(digest string) string {
		img, err := r.Get(t.Context(), digest)
		if err != nil {
			t.Fatal(err)
		}
		return img.State
	}
	eventually(t, "it is retired", func() bool { return state(old) == StateRetired })
	eventually(t, "the rest is put right", func() bool { return noted(bare) == nil && noted(back) == nil && noted(now) == nil })
	for _, d := range []string{bare, back, now} {
		if got := state(d); got != StateIndexed {
			t.Errorf("%s is %s", d, got)
		}
	}
	events := announced[schemas.ManifestRetired](t, r.pool, schemas.TypeManifestRetired)
	if len(events) != 1 || events[0].Manifest.Digest != old || !events[0].Manifest.Superseded ||
		!slices.Equal(events[0].Manifest.Names, []string{"app:1"}) || time.Since(events[0].SupersededAt) < time.Hour {
		t.Fatalf("events %+v", events)
	}
	if forgotten := announced[int32](t, r.pool, "forgotten"); len(forgotten) != 1 {
		t.Errorf("%d inventories were taken out of use", len(forgotten))
	}
	if images, err := r.List(t.Context(), Filter{}); err != nil || len(images) != 3 {
		t.Errorf("the list has %d images, %v", len(images), err)
	}
	if images, err := r.List(t.Context(), Filter{State: StateRetired}); err != nil || len(images) != 1 || images[0].Digest != old {
		t.Errorf("the list of retired ones has %+v, %v", images, err)
	}
	// A job that was under way does not bring it back.
	if err := r.index(t.Context(), old); err != nil || state(old) != StateRetired {
		t.Errorf("indexing it: %v, %s", err, state(old))
	}
	if got := r.named(t, "old", "", "app:2"); got != old {
		t.Fatal(got)
	}
	if img := r.wait(t, old); img.State != StateIndexed || img.Superseded || other.records(old)+r.records(old) != 2 {
		t.Errorf("handed in again it is %+v", img)
	}
	if noted(old) != nil {
		t.Error("it is noted as superseded still")
	}
	// Retired again, it comes back by its digest alone, and stays.
	gone := other.named(t, "newer", "", "app:2")
	r.wait(t, gone)
	eventually(t, "it is noted as superseded again", func() bool { return noted(old) != nil })
	if _, err := r.pool.Exec(t.Context(), `UPDATE tocsin.manifest SET superseded_at = now() - interval '61 minutes' WHERE digest = $1`, old); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is retired again", func() bool { return state(old) == StateRetired })
	r.named(t, "old", "")
	if img := r.wait(t, old); img.State != StateIndexed || img.Superseded || noted(old) != nil {
		t.Errorf("handed in again without a name it is %+v, superseded %v", img, noted(old))
	}
}

// An image that a name stands for again is announced once more: what came up
// while it was superseded was told of a superseded one.
func TestReturned(t *testing.T) {
	t.Parallel()
	r := newPlace(t).newRig(t, nil).run(t)
	a := r.named(t, "a", "", "app:1")
	r.wait(t, a)
	r.named(t, "a", "", "app:1") // nothing is new about it
	r.wait(t, r.named(t, "b", "", "app:1"))
	if got := r.records(a); got != 1 {
		t.Fatalf("it was recorded %d times before it was superseded", got)
	}
	r.named(t, "a", "", "app:1")
	eventually(t, "it is recorded again", func() bool { return r.records(a) == 2 })
	if !r.forced(a) {
		t.Error("its event is not asked for")
	}
}

// Without a time, nothing is retired.
func TestRetireNever(t *testing.T) {
	t.Parallel()
	r := newPlace(t).newRig(t, nil)
	old := r.named(t, "old", "", "app:1")
	r.named(t, "new", "", "app:1")
	if _, err := r.pool.Exec(t.Context(), `UPDATE tocsin.manifest SET state = 'indexed', superseded_at = now() - interval '10 years'`); err != nil {
		t.Fatal(err)
	}
	if err := r.retire(t.Context()); err != nil {
		t.Fatal(err)
	}
	if img, err := r.Get(t.Context(), old); err != nil || img.State != StateIndexed {
		t.Errorf("%+v, %v", img, err)
	}
}

// A name that is given while manifests are being retired holds: the manifest it
// means is not retired, whatever the look saw when it began.
func TestRetireHoldsAgainstNaming(t *testing.T) {
	t.Parallel()
	r := newPlace(t).newRig(t, func(o *Options) { o.RetireAfter = time.Hour })
	old := r.named(t, "old", "", "app:1")
	r.named(t, "new", "", "app:1")
	if _, err := r.pool.Exec(t.Context(), `UPDATE tocsin.manifest SET state = 'indexed', superseded_at = now() - interval '2 hours' WHERE digest = $1`, old); err != nil {
		t.Fatal(err)
	}
	// A request that is under way holds the row.
	ctx := t.Context()
	tx, err := r.pool.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(ctx) //nolint:errcheck // committed below
	if _, err := tx.Exec(ctx, `UPDATE tocsin.manifest SET digest = digest WHERE digest = $1`, old); err != nil {
		t.Fatal(err)
	}
	if _, retired, err := r.retireSome(ctx); err != nil || retired != 0 {
		t.Fatalf("%d retired, %v", retired, err)
	}
	var id int32
	if err := tx.QueryRow(ctx, `SELECT id FROM tocsin.manifest WHERE digest = $1`, old).Scan(&id); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(ctx, `INSERT INTO tocsin.name (name, manifest_id) VALUES ('late:1', @id)`, pgx.NamedArgs{"id": id}); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if _, retired, err := r.retireSome(ctx); err != nil || retired != 0 {
		t.Fatalf("%d retired that have a name, %v", retired, err)
	}
	if img, err := r.Get(ctx, old); err != nil || img.State != StateIndexed {
		t.Errorf("%+v, %v", img, err)
	}
}
