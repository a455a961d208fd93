package notifier

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/notifier/filter"
	"tocsin.dev/tocsin/schemas"
)

// manySubscriptions is a view of n subscriptions as people write them: most
// after one image or team, some after a severity, a few after everything.
func manySubscriptions(tb testing.TB, n int) *view {
	tb.Helper()
	c, err := filter.NewCompiler(filter.Limits{})
	if err != nil {
		tb.Fatal(err)
	}
	v := &view{subs: map[uuid.UUID]*subscriber{}}
	for i := range n {
		var f []schemas.Filter
		switch i % 10 {
		case 0, 1, 2:
			f = []schemas.Filter{{Exact: map[string]string{"image": fmt.Sprintf("registry/team%d/app:%d", i%500, i)}}}
		case 3, 4, 5:
			f = []schemas.Filter{{Prefix: map[string]string{"image": fmt.Sprintf("registry/team%d/", i%500)}}, {SQL: "severityrank >= 4"}}
		case 6, 7:
			f = []schemas.Filter{{SQL: fmt.Sprintf("image LIKE 'registry/team%d/%%' AND fixable AND severityrank > 2", i%500)}}
		case 8:
			f = []schemas.Filter{{CEL: fmt.Sprintf("updater == 'feed%d' && severityrank >= rank('High')", i%50)}}
		case 9:
			f = []schemas.Filter{{SQL: "severityrank >= 5 AND kev AND epss > 90"}}
		}
		set, problems := c.Compile(f)
		if problems != nil {
			tb.Fatal(problems)
		}
		id := uuid.New()
		spec := schemas.Subscription{Filters: f}
		v.subs[id] = &subscriber{id: id, spec: spec, asks: asks(spec), set: set, plan: set.Plan()}
	}
	v.index = buildIndex(v.subs)
	return v
}

func benchEvent(i int) *filter.Event {
	return &filter.Event{
		ID: "0198c0de-0000-7000-8000-000000000001", Source: "urn:tocsin:x", Type: schemas.TypeVulnerabilitiesChanged, Subject: "sha256:0", Time: time.Unix(0, 0),
		Extensions: schemas.Extensions{
			SeverityRank: new(int32(i % 6)), Severity: &schemas.SeverityNames[i%6], Fixable: new(i%2 == 0), KEV: new(i%7 == 0), EPSS: new(int32(i % 100)),
			Image: new(fmt.Sprintf("registry/team%d/app:%d", i%500, i%5000)), Updater: new("feed7"), FirstLoad: new(false),
		},
	}
}

// TestIndexAgreesWithEvaluatingAll compares the index with the filters of
// every subscription.
func TestIndexAgreesWithEvaluatingAll(t *testing.T) {
	t.Parallel()
	v := manySubscriptions(t, 1000)
	matched := 0
	for i := range 200 {
		e := benchEvent(i * 37)
		got := map[uuid.UUID]int{}
		for s := range v.matching(t.Context(), e) {
			got[s.id]++
			matched++
		}
		for id, s := range v.subs {
			want := 0
			if s.set.Match(t.Context(), e) {
				want = 1
			}
			if got[id] != want {
				t.Fatalf("event %d: %v matched %d times, want %d", i, s.spec.Filters, got[id], want)
			}
		}
	}
	if matched < 100 {
		t.Errorf("only %d matches: the test says little", matched)
	}
}

// BenchmarkMatch matches one event with many subscriptions.
func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{100, 5000} {
		v := manySubscriptions(b, n)
		b.Run(fmt.Sprintf("indexed/subscriptions=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			i, matches := 0, 0
			for b.Loop() {
				i++
				for range v.matching(context.Background(), benchEvent(i)) {
					matches++
				}
			}
			b.ReportMetric(float64(matches)/float64(b.N), "matches/op")
		})
		b.Run(fmt.Sprintf("all/subscriptions=%d", n), func(b *testing.B) {
			i := 0
			for b.Loop() {
				i++
				e := benchEvent(i)
				for _, s := range v.subs {
					s.set.Match(context.Background(), e)
				}
			}
		})
	}
}

// BenchmarkManifestsChanged announces an update of 50,000 manifests.
func BenchmarkManifestsChanged(b *testing.B) {
	for _, subs := range []struct {
		name string
		make func(w *world)
	}{
		{"none", func(*world) {}},
		{"one-for-all", func(w *world) { w.webhook(b, nil) }},
		{"thousand-filtered", func(w *world) {
			for i := range 1000 {
				w.webhook(b, nil, schemas.Filter{Prefix: map[string]string{"image": fmt.Sprintf("registry/team%d/", i)}}, schemas.Filter{SQL: "severityrank >= 4"})
			}
		}},
	} {
		b.Run(subs.name, func(b *testing.B) {
			w := newWorld(b)
			w.manifests(b, 50_000)
			subs.make(w)
			if _, err := w.Pool.Exec(b.Context(), `ANALYZE`); err != nil {
				b.Fatal(err)
			}
			if _, err := w.subscribers.current(b.Context(), w.Pool); err != nil {
				b.Fatal(err)
			}
			var before, after runtime.MemStats
			change, peak := int64(0), uint64(0)
			for b.Loop() {
				change++
				err := pgx.BeginFunc(b.Context(), w.Pool, func(tx pgx.Tx) error {
					b.StopTimer()
					if err := affected(b.Context(), tx); err != nil {
						return err
					}
					runtime.GC()
					runtime.ReadMemStats(&before)
					b.StartTimer()
					_, err := w.ManifestsChanged(b.Context(), tx, change, osv)
					runtime.ReadMemStats(&after)
					peak = max(peak, after.HeapSys)
					return err
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(peak)/(1<<20), "heap-MB")
		})
	}
}
