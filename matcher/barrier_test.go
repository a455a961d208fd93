package matcher_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/matcher"
	"tocsin.dev/tocsin/schemas"
)

// waitForWaiter returns when some transaction waits for an advisory lock.
func (w *world) waitForWaiter() {
	w.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for w.count(`SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`) == 0 {
		if time.Now().After(deadline) {
			w.t.Fatal("nobody waits for a lock")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// hold makes the log stop in a method until the returned function is called,
// and says on the channel that it has come there.
func (w *world) hold(method string) (reached <-chan struct{}, release func()) {
	at, go_ := make(chan struct{}), make(chan struct{})
	w.log.set(func(ctx context.Context, _ pgx.Tx, m string) error {
		if m != method {
			return nil
		}
		w.log.set(nil)
		close(at)
		select {
		case <-go_:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	return at, func() { close(go_) }
}

// An image indexed while a change is being written is told in its indexed
// event, not in a change.
func TestIndexedWhileAChangeIsWritten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.index("first", deb("bash", "5.2", "bash"))
	w.update("debian", debVuln("CVE-1", "bash", ""))
	late := w.manifest("late")

	reached, release := w.hold("changed")
	processed, indexed := make(chan error, 1), make(chan error, 1)
	go func() { processed <- w.engine.ProcessUpdates(t.Context()) }()
	<-reached
	go func() { indexed <- w.engine.Indexed(t.Context(), late, report("late", deb("bash", "5.2", "bash"))) }()
	w.waitForWaiter()
	release()
	if err := errors.Join(<-processed, <-indexed); err != nil {
		t.Fatal(err)
	}
	w.process()
	w.expect("first debian: +CVE-1@bash")
	evs := logged[schemas.IndexedEvent](w, "indexed")
	if n := evs[1].Data.Vulnerabilities.High; n != 1 {
		t.Errorf("the late image was announced with %+v, want the finding of the change it missed", evs[1].Data.Vulnerabilities)
	}
}

// An image whose indexing has not committed when a change is judged, with
// packages nobody had before, is told in the change.
func TestIndexedWhileAChangeIsJudged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.index("first", deb("bash", "5.2", "bash"))
	w.update("debian", debVuln("CVE-1", "bash", ""), debVuln("CVE-2", "zlib", "9"))
	late := w.manifest("late")

	reached, release := w.hold("indexed")
	processed, indexed := make(chan error, 1), make(chan error, 1)
	go func() {
		indexed <- w.engine.Indexed(t.Context(), late, report("late", deb("bash", "4.4", "bash"), deb("zlib1g", "1.2", "zlib")))
	}()
	<-reached
	go func() { processed <- w.engine.ProcessUpdates(t.Context()) }()
	w.waitForWaiter()
	release()
	if err := errors.Join(<-processed, <-indexed); err != nil {
		t.Fatal(err)
	}
	w.expect("first debian: +CVE-1@bash", "late debian: +CVE-1@bash +CVE-2@zlib1g")
	evs := logged[schemas.IndexedEvent](w, "indexed")
	if v := evs[1].Data.Vulnerabilities; v != (schemas.BySeverity{}) {
		t.Errorf("the late image was announced with %+v, want nothing: it is told in the change", v)
	}
}

// A change that dies anywhere leaves nothing, and the next run finds the same.
func TestChangeThatDies(t *testing.T) {
	t.Parallel()
	dies := errors.New("died on purpose")
	terminate := func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SELECT pg_terminate_backend(pg_backend_pid())`)
		return err
	}
	for _, c := range []struct {
		name, method string
		die          func(context.Context, pgx.Tx) error
	}{
		{"error before the events", "changed", func(context.Context, pgx.Tx) error { return dies }},
		{"error after the cursor has moved", "completed", func(context.Context, pgx.Tx) error { return dies }},
		{"connection lost before the events", "changed", terminate},
		{"connection lost after the cursor has moved", "completed", terminate},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.index("web", deb("bash", "5.2", "bash"))
			w.update("debian", debVuln("CVE-1", "bash", ""))
			w.process()
			w.update("debian", debVuln("CVE-1", "bash", "5.3"), debVuln("CVE-2", "bash", ""))
			w.update("other", debVuln("CVE-3", "bash", ""))
			died := false
			w.log.set(func(ctx context.Context, tx pgx.Tx, m string) error {
				if m != c.method || died {
					return nil
				}
				died = true
				return c.die(ctx, tx)
			})
			err := w.engine.ProcessUpdates(t.Context())
			if err == nil || !strings.Contains(err.Error(), `updater "debian"`) {
				t.Fatalf("error is %v, want one of the updater debian", err)
			}
			// The other updater was not kept.
			w.expect("web debian: +CVE-1@bash", "web other: +CVE-3@bash")
			w.process()
			w.expect("web debian: +CVE-1@bash", "web other: +CVE-3@bash", "web debian: +CVE-2@bash ~CVE-1@bash(fixed_in_version)")
			if n := w.count(`SELECT count(*) FROM tocsin.change`); n != 3 {
				t.Errorf("%d changes are stored, want 3", n)
			}
		})
	}
}

func TestIndexingThatDies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.manifest("web")
	w.log.set(func(ctx context.Context, tx pgx.Tx, _ string) error {
		_, err := tx.Exec(ctx, `SELECT pg_terminate_backend(pg_backend_pid())`)
		return err
	})
	r := report("web", deb("bash", "5.2", "bash"))
	if err := w.engine.Indexed(t.Context(), m, r); err == nil {
		t.Fatal("a lost connection was not reported")
	}
	if n := w.count(`SELECT count(*) FROM tocsin.inventory`) + w.count(`SELECT count(*) FROM tocsin.occurrence`); n != 0 {
		t.Errorf("%d rows of a lost transaction are there", n)
	}
	w.log.set(nil)
	for range 2 {
		if err := w.engine.Indexed(t.Context(), m, r); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(logged[schemas.IndexedEvent](w, "indexed")); n != 1 {
		t.Errorf("the image was announced %d times, want once", n)
	}
}

// Any number of processes may work through the same updates.
func TestManyEngines(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.index("web", deb("bash", "5.2", "bash"))
	w.update("a", debVuln("CVE-1", "bash", ""))
	w.update("a", debVuln("CVE-2", "bash", ""))
	w.update("b", debVuln("CVE-3", "bash", ""))
	errs := make(chan error)
	for range 4 {
		e := w.newEngine()
		go func() { errs <- e.ProcessUpdates(t.Context()) }()
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	w.expect("web a: +CVE-1@bash", "web a: +CVE-2@bash -CVE-1@bash", "web b: +CVE-3@bash")
}

// Images with packages in common can be indexed at once.
func TestIndexedAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var items []item
	for i := range 200 {
		items = append(items, deb("p"+string(rune('a'+i%26))+string(rune('a'+i/26)), "1.0", "src"))
	}
	errs := make(chan error)
	const n = 6
	for i := range n {
		m := w.manifest("image" + string(rune('0'+i)))
		r := report(m.Names[0], items[i:]...)
		go func() { errs <- w.engine.Indexed(t.Context(), m, r) }()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if got := w.count(`SELECT count(*) FROM tocsin.occurrence`); got != len(items) {
		t.Errorf("%d occurrences are stored, want %d", got, len(items))
	}
	if got := w.count(`SELECT count(*) FROM tocsin.occurrence_record`); got != len(items) {
		t.Errorf("%d records are stored, want %d", got, len(items))
	}
}

func TestRunProcessesOnWakeAndEnds(t *testing.T) {
	t.Parallel()
	wake := make(chan struct{})
	w := newWorld(t, func(o *matcher.Options) { o.Wake, o.Interval = waker(wake), time.Hour })
	w.index("web", deb("bash", "5.2", "bash"))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.engine.Run(ctx) }()
	wake <- struct{}{} // the first look is over
	w.update("debian", debVuln("CVE-1", "bash", ""))
	wake <- struct{}{}
	wake <- struct{}{} // the look that the hint asked for is over
	w.expect("web debian: +CVE-1@bash")
	stop()
	if err := <-ended; err != nil {
		t.Errorf("Run ended with %v", err)
	}
}

type waker chan struct{}

func (w waker) OnWake(context.Context, string) <-chan struct{} { return w }

func TestGarbageIsLeftWhileUpdatersRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tx, err := w.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT pg_advisory_xact_lock_shared(@key)`, pgx.NamedArgs{"key": matcher.UpdateLockKey}); err != nil {
		t.Fatal(err)
	}
	if err := w.engine.CollectGarbage(t.Context()); !errors.Is(err, matcher.ErrUpdatersRun) {
		t.Errorf("error is %v, want ErrUpdatersRun", err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 3 { // the lock is given back each time
		if err := w.engine.CollectGarbage(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestHistoryIsForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *matcher.Options) { o.History = time.Hour })
	w.index("web", deb("bash", "5.2", "bash"), deb("zlib1g", "1.2", "zlib"))
	w.update("debian", debVuln("CVE-1", "bash", ""))
	w.process()
	w.index("web", deb("bash", "5.3", "bash"))
	w.update("debian", debVuln("CVE-1", "bash", ""), debVuln("CVE-2", "bash", ""))
	w.process()
	if _, err := w.pool.Exec(t.Context(), `UPDATE tocsin.change SET created_at = now() - interval '2 hours' WHERE id = 1`); err != nil {
		t.Fatal(err)
	}
	if _, err := w.pool.Exec(t.Context(), `UPDATE tocsin.inventory SET retired_at = now() - interval '2 hours' WHERE NOT current`); err != nil {
		t.Fatal(err)
	}
	if err := w.engine.CollectGarbage(t.Context()); err != nil {
		t.Fatal(err)
	}
	var keys []schemas.ChangeKey
	for _, r := range w.rows() {
		keys = append(keys, r.key())
	}
	if _, err := w.engine.RenderChanges(t.Context(), keys[:1], 0); !errors.Is(err, matcher.ErrUnknownChange) {
		t.Errorf("a forgotten change renders with %v, want ErrUnknownChange", err)
	}
	evs, err := w.engine.RenderChanges(t.Context(), keys[1:], 0)
	if err != nil || len(evs) != 1 || len(evs[0].Added) != 1 {
		t.Errorf("the change that is kept renders as %+v, %v", evs, err)
	}
	got := []int{
		w.count(`SELECT count(*) FROM tocsin.advisory`), w.count(`SELECT count(*) FROM tocsin.occurrence`),
		w.count(`SELECT count(*) FROM tocsin.inventory`), w.count(`SELECT count(*) FROM tocsin.change`),
	}
	// The old bash is in no inventory, but the change that is kept was judged for it.
	if !slices.Equal(got, []int{1, 2, 1, 1}) {
		t.Errorf("advisories, occurrences, inventories, changes left: %v, want one each, and the old occurrence of the change", got)
	}
}

// An occurrence that no inventory holds any more stays as long as a change
// speaks of it, and goes with that.
func TestAnOccurrenceStaysForAChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *matcher.Options) { o.History = time.Hour })
	w.index("web", deb("bash", "5.2", "bash"), deb("zlib1g", "1.2", "zlib"))
	w.update("debian", debVuln("CVE-1", "bash", ""))
	w.process()
	w.index("web", deb("bash", "5.3", "bash"))
	left := func(expire string) []int {
		t.Helper()
		if _, err := w.pool.Exec(t.Context(), expire); err != nil {
			t.Fatal(err)
		}
		if err := w.engine.CollectGarbage(t.Context()); err != nil {
			t.Fatal(err)
		}
		return []int{
			w.count(`SELECT count(*) FROM tocsin.occurrence`), w.count(`SELECT count(*) FROM tocsin.inventory`), w.count(`SELECT count(*) FROM tocsin.change`),
		}
	}
	got := left(`UPDATE tocsin.inventory SET retired_at = now() - interval '2 hours' WHERE NOT current`)
	if !slices.Equal(got, []int{2, 1, 1}) {
		t.Errorf("occurrences, inventories, changes left: %v, want the one of the change and the one that is held", got)
	}
	got = left(`UPDATE tocsin.change SET created_at = now() - interval '2 hours'`)
	if !slices.Equal(got, []int{1, 1, 0}) {
		t.Errorf("occurrences, inventories, changes left: %v, want the occurrence that is held", got)
	}
}
