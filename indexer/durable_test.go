package indexer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/quay/claircore"

	"tocsin.dev/tocsin/indexer/blobs"
	"tocsin.dev/tocsin/internal/jobs"
	"tocsin.dev/tocsin/internal/secrets"
	"tocsin.dev/tocsin/schemas"
)

// one is a request for a manifest of one small layer that srv serves.
func one(t *testing.T, name string) Request {
	t.Helper()
	content := tarOf(t, alpineWith(name, "1"))
	srv := httptest.NewServer(serveBytes(content))
	t.Cleanup(srv.Close)
	return Request{Names: []string{name}, Manifest: &Manifest{
		Digest: digestOf([]byte("manifest of " + name)), Layers: []Layer{{Digest: digestOf(content), URI: srv.URL}},
	}}
}

// A process that ends after it has written a request down, and before anything
// else, loses nothing: neither before the job is queued nor after.
func TestRecordedIsIndexed(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	dead := p.newRig(t, nil)
	queued := dead.submit(t, one(t, "queued"))

	half := one(t, "half").Manifest
	sp, _ := split(half)
	if _, err := dead.store.record(t.Context(), half, sp, secrets.Sealed{}, claims{names: []string{"half"}}, dead.State()); err != nil {
		t.Fatal(err)
	}
	if _, err := p.pool.Exec(t.Context(), `UPDATE tocsin.manifest SET updated_at = now() - interval '1 hour' WHERE digest = $1`, half.Digest); err != nil {
		t.Fatal(err)
	}

	r := p.newRig(t, nil).run(t)
	for _, d := range []string{queued.Digest, half.Digest} {
		if img := r.wait(t, d); img.State != StateIndexed || r.records(d) != 1 {
			t.Errorf("%s is %s: %s", d, img.State, img.Reason)
		}
	}
}

// An attempt that ends between claircore's report and the inventory is made up
// for, without fetching anything again.
func TestReportedIsRecorded(t *testing.T) {
	t.Parallel()
	content := tarOf(t, alpineWith("musl", "1"))
	var fetched atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fetched.Add(1)
		w.Write(content)
	}))
	t.Cleanup(srv.Close)
	r := newPlace(t).newRig(t, nil)
	r.fail = errors.New("the database went away")
	r.run(t)
	got := r.submit(t, Request{Manifest: &Manifest{Digest: digestOf([]byte("m")), Layers: []Layer{{Digest: digestOf(content), URI: srv.URL}}}})
	if img := r.wait(t, got.Digest); img.State != StateIndexed || img.Packages != 1 || r.records(got.Digest) != 1 || fetched.Load() != 1 {
		t.Errorf("image is %s with %d packages, recorded %d times, fetched %d times: %s", img.State, img.Packages, r.records(got.Digest), fetched.Load(), img.Reason)
	}
}

// A replica that is stopped in the middle of a fetch gives its work to the next.
func TestStoppedWhileFetching(t *testing.T) {
	t.Parallel()
	content := tarOf(t, alpineWith("musl", "1"))
	fetching := make(chan struct{})
	var once sync.Once
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		first := false
		once.Do(func() { first = true })
		if first {
			close(fetching)
			<-r.Context().Done()
			return
		}
		w.Write(content)
	}))
	t.Cleanup(srv.Close)
	p := newPlace(t)
	r := p.newRig(t, nil).run(t)
	got := r.submit(t, Request{Manifest: &Manifest{Digest: digestOf([]byte("m")), Layers: []Layer{{Digest: digestOf(content), URI: srv.URL}}}})
	<-fetching
	r.stop()
	next := p.newRig(t, nil).run(t)
	if img := next.wait(t, got.Digest); img.State != StateIndexed {
		t.Errorf("image is %s: %s", img.State, img.Reason)
	}
	job, err := next.jobs.List(t.Context(), jobs.Filter{Kind: JobKind, Key: got.Digest})
	if err != nil || len(job) != 1 || job[0].Attempts != 1 {
		t.Errorf("jobs %+v, %v: a stop should cost no attempt", job, err)
	}
}

// Two replicas share the work, and each manifest is indexed by one of them.
func TestTwoReplicas(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	a, b := p.newRig(t, nil).run(t), p.newRig(t, nil).run(t)
	const n = 24
	var wg sync.WaitGroup
	digests := make([]string, n)
	for i := range n {
		req := one(t, fmt.Sprintf("app-%d", i))
		digests[i] = req.Manifest.Digest
		for _, r := range []*rig{a, b} { // both are told of each
			wg.Go(func() {
				if _, err := r.Submit(t.Context(), req); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	for _, d := range digests {
		if img := a.wait(t, d); img.State != StateIndexed {
			t.Errorf("%s is %s: %s", d, img.State, img.Reason)
		}
	}
	events := announced[schemas.ManifestIndexed](t, p.pool, schemas.TypeManifestIndexed)
	seen := map[string]int{}
	for _, e := range events {
		seen[e.Manifest.Digest]++
	}
	if len(seen) != n {
		t.Errorf("%d manifests announced, want %d", len(seen), n)
	}
	for d, times := range seen {
		if times != 1 {
			t.Errorf("%s was announced %d times", d, times)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(a.recorded) == 0 || len(b.recorded) == 0 {
		t.Errorf("one replica did %d, the other %d", len(a.recorded), len(b.recorded))
	}
}

// A changed scanner state has everything indexed again, by itself; a newer one
// is left alone by a replica of the older version.
func TestReindexStale(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	r := p.newRig(t, nil).run(t)
	var digests []string
	for i := range 3 {
		got := r.submit(t, one(t, fmt.Sprintf("app-%d", i)))
		r.wait(t, got.Digest)
		digests = append(digests, got.Digest)
	}
	newer := digests[2]
	if _, err := p.pool.Exec(t.Context(), `INSERT INTO tocsin.indexer_state (state) VALUES ('newer')`); err != nil {
		t.Fatal(err)
	}
	if _, err := p.pool.Exec(t.Context(), `UPDATE tocsin.manifest SET indexer_state = 'newer' WHERE digest = $1`, newer); err != nil {
		t.Fatal(err)
	}
	for _, d := range digests[:2] {
		r.age(t, d)
	}
	for _, d := range digests[:2] {
		eventually(t, "it is indexed again", func() bool { return r.records(d) == 2 })
	}
	stale, err := r.store.stale(t.Context(), r.State(), 10)
	if err != nil || len(stale) != 0 {
		t.Errorf("still stale: %v, %v", stale, err)
	}
	// A job for it, as of a race, is no work either.
	if _, err := r.queue(t.Context(), newer); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its jobs are done", func() bool {
		list, err := r.jobs.List(t.Context(), jobs.Filter{Kind: JobKind, Key: newer, State: jobs.Done})
		return err == nil && len(list) == 2
	})
	if n := r.records(newer); n != 1 {
		t.Errorf("what a newer state indexed was indexed %d times", n)
	}
}

func TestDelete(t *testing.T) {
	t.Parallel()
	r := newPlace(t).newRig(t, nil).run(t)
	req := one(t, "app")
	got := r.submit(t, req)
	img := r.wait(t, got.Digest)
	unknown := digestOf([]byte("unknown"))
	deleted, err := r.Delete(t.Context(), got.Digest, unknown)
	if err != nil || !slices.Equal(deleted, []string{got.Digest}) {
		t.Fatalf("Delete = %v, %v", deleted, err)
	}
	if _, err := r.Get(t.Context(), got.Digest); !errors.Is(err, ErrNotFound) {
		t.Errorf("Get = %v, want ErrNotFound", err)
	}
	if list, err := r.List(t.Context(), Filter{}); err != nil || len(list) != 0 {
		t.Errorf("List = %v, %v", list, err)
	}
	if list, err := r.List(t.Context(), Filter{State: StateDeleted}); err != nil || len(list) != 1 {
		t.Errorf("List of deleted = %v, %v", list, err)
	}
	if _, ok, err := r.IndexReport(t.Context(), claircore.MustParseDigest(got.Digest)); err != nil || ok {
		t.Errorf("the index report is still there: %t, %v", ok, err)
	}
	eventually(t, "its inventory is forgotten", func() bool {
		return slices.Contains(announced[int32](t, r.pool, "forgotten"), img.ID)
	})
	if again, err := r.Delete(t.Context(), got.Digest); err != nil || len(again) != 0 {
		t.Errorf("second Delete = %v, %v", again, err)
	}
	if _, err := r.Delete(t.Context(), "nonsense"); len(Invalid(err)) != 1 {
		t.Errorf("Delete of nonsense = %v", err)
	}
	// It may come back.
	if back := r.submit(t, req); back.Known {
		t.Error("a deleted manifest is known")
	}
	if img := r.wait(t, got.Digest); img.State != StateIndexed || r.records(got.Digest) != 2 {
		t.Errorf("image is %s: %s", img.State, img.Reason)
	}
	// A deletion that was interrupted is finished.
	if _, err := r.pool.Exec(t.Context(), deleteManifests, pgx.NamedArgs{"digests": []string{got.Digest}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the rest is cleaned up", func() bool {
		_, ok, err := r.IndexReport(t.Context(), claircore.MustParseDigest(got.Digest))
		return err == nil && !ok
	})
}

// A digest that is indexed with other layers can't be taken over.
func TestOtherLayers(t *testing.T) {
	t.Parallel()
	r := newPlace(t).newRig(t, nil).run(t)
	req := one(t, "app")
	r.wait(t, r.submit(t, req).Digest)
	other := one(t, "other")
	other.Manifest.Digest = req.Manifest.Digest
	if _, err := r.Submit(t.Context(), other); !errors.Is(err, ErrOtherLayers) {
		t.Errorf("Submit = %v, want ErrOtherLayers", err)
	}
	if got := r.packages(t, req.Manifest.Digest); !slices.Equal(got, []string{"app 1"}) {
		t.Errorf("packages %q", got)
	}
}

func TestListPages(t *testing.T) {
	t.Parallel()
	r := newPlace(t).newRig(t, nil)
	for i := range 5 {
		req := one(t, fmt.Sprintf("registry.example/team_%d/app:1", i))
		r.submit(t, req)
	}
	var seen []string
	f := Filter{Name: "registry.example/*", Limit: 2}
	for {
		page, err := r.List(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for _, img := range page {
			seen = append(seen, img.Names[0])
		}
		f.Before = page[len(page)-1].ID
	}
	want := []string{"registry.example/team_4/app:1", "registry.example/team_3/app:1", "registry.example/team_2/app:1", "registry.example/team_1/app:1", "registry.example/team_0/app:1"}
	if !slices.Equal(seen, want) {
		t.Errorf("pages have %q", seen)
	}
	for pattern, n := range map[string]int{"*": 5, "*team_3*": 1, "registry.example/team_?/app:1": 5, "registry%": 0, "registry.example/teamX0/app:1": 0, "": 5} {
		if list, err := r.List(t.Context(), Filter{Name: pattern}); err != nil || len(list) != n {
			t.Errorf("pattern %q selects %d, %v; want %d", pattern, len(list), err, n)
		}
	}
	if list, err := r.List(t.Context(), Filter{State: StateIndexed}); err != nil || len(list) != 0 {
		t.Errorf("indexed: %v, %v", list, err)
	}
}

// Blobs are kept while a manifest needs them, and go with it.
func TestBlobsSwept(t *testing.T) {
	t.Parallel()
	r := newPlace(t).newRig(t, nil)
	content := tarOf(t, alpineWith("musl", "1"))
	b, err := r.blobs.Put(t.Context(), digestOf(content), bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	got := r.submit(t, Request{Manifest: &Manifest{Digest: digestOf([]byte("m")), Layers: []Layer{{Digest: b.Digest}}}})
	need := func() blobs.Need {
		t.Helper()
		var got blobs.Need
		rows, err := r.pool.Query(t.Context(), blobNeeds, pgx.NamedArgs{"digests": []string{b.Digest}, "scheme": blobs.URI("")})
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var d string
			var waiting bool
			if err := rows.Scan(&d, &waiting); err != nil {
				t.Fatal(err)
			}
			if got = blobs.Reindex; waiting {
				got = blobs.Pending
			}
		}
		return got
	}
	if n := need(); n != blobs.Pending {
		t.Errorf("before indexing: %v", n)
	}
	r.run(t)
	r.wait(t, got.Digest)
	if n := need(); n != blobs.Reindex {
		t.Errorf("after indexing: %v", n)
	}
	if _, err := r.Delete(t.Context(), got.Digest); err != nil {
		t.Fatal(err)
	}
	if n := need(); n != blobs.Unused {
		t.Errorf("after deletion: %v", n)
	}
	if err := r.sweepBlobs(t.Context()); err != nil {
		t.Error(err)
	}
}

// A lock is exclusive across processes, and losing its connection cancels what
// it guards.
func TestClairD14_LocksAreApart(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	a, b := &locker{p.pool}, &locker{p.pool}
	held, release := a.Lock(t.Context(), "x")
	if held.Err() != nil {
		t.Fatal(held.Err())
	}
	try, done := b.TryLock(t.Context(), "x")
	if done(); try.Err() == nil {
		t.Error("a lock was had twice")
	}
	if other, done := b.TryLock(t.Context(), "y"); other.Err() != nil {
		t.Error("another lock was not to be had")
	} else {
		done()
	}
	got := make(chan struct{})
	go func() {
		ctx, done := b.Lock(t.Context(), "x")
		defer done()
		if ctx.Err() == nil {
			close(got)
		}
	}()
	release()
	select {
	case <-got:
	case <-time.After(deadline):
		t.Fatal("the lock was not handed on")
	}
	if !errors.Is(held.Err(), context.Canceled) {
		t.Errorf("after release the context is %v", held.Err())
	}

	at := &attempt{}
	held, release = a.Lock(withAttempt(t.Context(), at), "x")
	defer release()
	if _, err := p.pool.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`); err != nil {
		t.Fatal(err)
	}
	select {
	case <-held.Done():
	case <-time.After(deadline):
		t.Fatal("a lost lock did not cancel its context")
	}
	if at.lockError() == nil {
		t.Error("the attempt was not told")
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if ctx, done := a.Lock(cancelled, "z"); ctx.Err() == nil {
		t.Error("a lock was taken in a cancelled context")
	} else {
		done()
	}
}

// The key of a lock is claircore's: deleting a manifest tries the same.
func TestLockKeyIsClaircores(t *testing.T) {
	t.Parallel()
	r := newPlace(t).newRig(t, nil).run(t)
	got := r.submit(t, one(t, "app"))
	r.wait(t, got.Digest)
	d := claircore.MustParseDigest(got.Digest)
	_, release := (&locker{r.pool}).Lock(t.Context(), got.Digest)
	gone, err := r.lib.DeleteManifests(t.Context(), d)
	if err != nil || len(gone) != 0 {
		t.Errorf("a locked manifest was deleted: %v, %v", gone, err)
	}
	release()
	eventually(t, "it can be deleted", func() bool {
		gone, err := r.lib.DeleteManifests(t.Context(), d)
		return err == nil && len(gone) == 1
	})
}

// The real images, where they are there.
func TestFixtures(t *testing.T) {
	t.Parallel()
	dir := fixtures(t)
	r := newPlace(t).newRig(t, nil).run(t)
	want := map[string]int{"alpine-3.8.2-meta": 13, "inventory-api-go": 23, "debian-12.11-meta": 111, "debian-12.15-minbase": 88}
	digests := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		req := r.upload(t, "oci:"+dir+"/images/"+name)[0]
		digests[name] = r.submit(t, req).Digest
	}
	for name, n := range want {
		if img := r.wait(t, digests[name]); img.State != StateIndexed || img.Packages != n || len(img.Warnings) > 0 {
			t.Errorf("%s is %s with %d packages (want %d), warnings %q: %s", name, img.State, img.Packages, n, img.Warnings, img.Reason)
		}
	}
}
