package matcher_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"tocsin.dev/tocsin/matcher"
)

// start runs an engine until the returned function is called.
func start(t *testing.T, w *world, e *matcher.Engine) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := e.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
	})
	t.Cleanup(stop)
	for range 500 {
		if w.count(`SELECT count(*) FROM tocsin.matcher_process`) > 0 && w.count(`SELECT count(*) FROM tocsin.setting WHERE key = 'matcher.fingerprint'`) > 0 {
			return stop
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the engine did not start")
	return nil
}

func only(names ...string) func(*matcher.Options) {
	return func(o *matcher.Options) { o.MatcherNames = names }
}

// A process with other matchers does nothing while one is at work, says what to
// do, and takes over when that one has ended.
func TestOtherMatchersRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.index("web", deb("bash", "5.2", "bash"))
	stop := start(t, w, w.engine)
	other := w.newEngine(only("python", "gobin"))
	err := other.ProcessUpdates(t.Context())
	if !errors.Is(err, matcher.ErrOtherMatchers) || !strings.Contains(err.Error(), "debian-matcher") || !strings.Contains(err.Error(), "matcher.names") {
		t.Fatalf("error is %v, want one that names the matchers and the key", err)
	}
	m := matcher.Manifest{ID: 1, Digest: digestOf("app").String()}
	if err := other.Indexed(t.Context(), m, report("app", deb("bash", "5.2", "bash"))); !errors.Is(err, matcher.ErrOtherMatchers) {
		t.Errorf("indexing: error is %v", err)
	}
	if _, err := other.Counts(t.Context(), []int32{1}); !errors.Is(err, matcher.ErrOtherMatchers) {
		t.Errorf("counting: error is %v", err)
	}
	w.update("debian", debVuln("CVE-1", "bash", "5.3"))
	w.process()
	w.expect("web debian: +CVE-1@bash")

	stop()
	if err := other.ProcessUpdates(t.Context()); err != nil {
		t.Errorf("after the other has ended: %v", err)
	}
}

// A process whose masks were changed under it notices before its next change and
// its next index: it takes them back, or refuses.
func TestChangedMatchersNoticed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.index("web", deb("bash", "5.2", "bash"))
	w.process()
	for _, names := range [][]string{{"python", "gobin"}, {}} {
		if err := w.newEngine(only(names...)).ProcessUpdates(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	w.update("debian", debVuln("CVE-1", "bash", "5.3"))
	w.process()
	w.index("app", deb("bash", "5.2", "bash"))
	w.expect("web debian: +CVE-1@bash")
	if c, err := w.engine.Counts(t.Context(), []int32{w.ids["app"]}); err != nil || c[w.ids["app"]].High != 1 {
		t.Errorf("counts %v, %v", c, err)
	}

	other := w.newEngine(only("python", "gobin"))
	if err := other.ProcessUpdates(t.Context()); err != nil {
		t.Fatal(err)
	}
	start(t, w, other)
	w.update("debian", debVuln("CVE-1", "bash", "5.3"), debVuln("CVE-2", "bash", "5.3"))
	if err := w.engine.ProcessUpdates(t.Context()); !errors.Is(err, matcher.ErrOtherMatchers) {
		t.Errorf("error is %v", err)
	}
}

// A matcher keeps its bit whatever others there are.
func TestBitsAreByName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, names := range [][]string{{"gobin"}, {"debian-matcher", "gobin"}, {"debian-matcher"}, nil} {
		if err := w.newEngine(only(names...)).ProcessUpdates(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.count(`SELECT bit FROM tocsin.matcher_bit WHERE name = 'gobin'`); n != 0 {
		t.Errorf("gobin has moved to bit %d", n)
	}
	if n := w.count(`SELECT bit FROM tocsin.matcher_bit WHERE name = 'debian-matcher'`); n != 2 && n != 1 {
		t.Errorf("debian-matcher has bit %d", n)
	}
	if n := w.count(`SELECT count(*) - count(DISTINCT bit) FROM tocsin.matcher_bit`); n != 0 {
		t.Error("two matchers have one bit")
	}
}
