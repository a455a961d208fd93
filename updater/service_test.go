package updater

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tocsin.dev/tocsin/internal/bus"
	"tocsin.dev/tocsin/internal/bus/bustest"
	"tocsin.dev/tocsin/internal/jobs"
	"tocsin.dev/tocsin/internal/postgres/postgrestest"
)

// An installation is replicas of the service on one database and one NATS server.
type installation struct {
	*bench // of the first replica
	bus    *bus.Bus
	nats   *bustest.Server
	others []*Service
	stop   context.CancelFunc
	wait   func()
}

func install(t *testing.T, replicas int, cfg Config) *installation {
	t.Helper()
	in := &installation{nats: bustest.NewServer(t)}
	pool := postgrestest.New(t)
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	if _, err := pool.Exec(t.Context(), `CREATE TABLE announced (set_name text, updater text, reason text)`); err != nil {
		t.Fatal(err)
	}
	in.bench = &bench{t: t}
	for i := range replicas {
		b := in.nats.Connect()
		s, err := New(Options{
			Config: cfg, Pool: pool, UpdateLock: 4242, Logger: log,
			Queue: jobs.New(pool, b, jobs.Options{Logger: log, SweepEvery: 100 * time.Millisecond}), Intake: b, Waker: in.bench, Announcer: in.bench,
		})
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			in.Service, in.bus = s, b
		} else {
			in.others = append(in.others, s)
		}
	}
	return in
}

// start runs all replicas until the test ends or stop is called.
func (in *installation) start() {
	ctx, cancel := context.WithCancel(context.WithoutCancel(in.t.Context()))
	var wg sync.WaitGroup
	for _, s := range append(in.others, in.Service) {
		wg.Go(func() {
			if err := s.Run(ctx); err != nil {
				in.t.Errorf("a replica ended with %v", err)
			}
		})
	}
	in.stop, in.wait = cancel, wg.Wait
	in.t.Cleanup(func() { cancel(); wg.Wait() })
}

func (in *installation) done(set string, n int) {
	in.t.Helper()
	in.eventually(fmt.Sprintf("%d finished jobs of %s", n, set), func() bool {
		return one[int](in.bench, `SELECT count(*) FROM tocsin.job WHERE kind = 'update' AND key = $1 AND state IN ('done', 'failed')`, set) >= n
	})
}

// TestFirstStart: sets that never ran run at once, each once whatever the number
// of replicas; a restart within the interval runs nothing; one after it does.
func TestFirstStart(t *testing.T) {
	t.Parallel()
	m := newMirror(t)
	m.osv(t, 2, "Go")
	m.kev(t, "CVE-2026-0001")
	cfg := m.config("osv", "kev", "alpine")
	cfg.Schedules = map[string]string{"default": "@every 6h", "alpine": "off"}
	in := install(t, 3, cfg)
	in.start()
	in.done("osv", 1)
	in.done("kev", 1)
	in.want("osv/go", Updated, 2)
	in.want("clair.kev", Updated, 1)
	in.stop()
	in.wait()
	if n := one[int](in.bench, `SELECT count(*) FROM update_operation`); n != 2 {
		t.Errorf("%d operations after the first start, want 2", n)
	}

	// The next replica starts a little later: only what is overdue runs.
	if _, err := in.pool.Exec(t.Context(), `UPDATE tocsin.updater_run SET started_at = started_at - INTERVAL '7 hours' WHERE set_name = 'kev'`); err != nil {
		t.Fatal(err)
	}
	m.kev(t, "CVE-2026-0001", "CVE-2026-0002")
	m.put("/Go/all.zip", zipped(t, advisories(3)))
	in.start()
	in.done("kev", 2)
	in.want("clair.kev", Updated, 2)
	in.stop()
	in.wait()
	in.want("osv/go", Updated, 2)
	if n := m.count("GET /ecosystems.txt"); n != 1 {
		t.Errorf("osv ran %d times within its interval, want once", n)
	}
	if n := m.count("GET /alpine/last-update"); n != 0 {
		t.Errorf("alpine ran %d times with schedule off", n)
	}
	if st := in.set("osv"); st.Next == nil || st.Next.Before(time.Now().Add(5*time.Hour)) || st.Schedule != "@every 6h" || st.Running {
		t.Errorf("status of osv is %+v", st)
	}
}

// TestOneRunATick: three replicas tick a set every second, and every tick is
// one run.
func TestOneRunATick(t *testing.T) {
	t.Parallel()
	var (
		mu     sync.Mutex
		starts []time.Time
		active int
	)
	m := newMirror(t)
	m.osv(t, 2, "Go")
	m.hook("/ecosystems.txt", func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		starts = append(starts, time.Now())
		if active++; active > 1 {
			t.Error("two runs of one set at a time")
		}
		mu.Unlock()
		_, _ = w.Write([]byte("Go\n"))
		mu.Lock()
		active--
		mu.Unlock()
	})
	cfg := m.config("osv")
	cfg.Schedules = map[string]string{"osv": "@every 1s"}
	in := install(t, 3, cfg)
	in.start()
	in.eventually("six runs", func() bool { mu.Lock(); defer mu.Unlock(); return len(starts) >= 6 })
	in.stop()
	in.wait()
	mu.Lock()
	defer mu.Unlock()
	// n runs have n-1 intervals between them; what the first took to get here
	// may be missing from the sum, what one tick too many took would be.
	n := len(starts) - 1
	if took, least := starts[n].Sub(starts[0]), time.Duration(n)*time.Second-500*time.Millisecond; took < least {
		t.Errorf("%d runs within %v, want at least %v: some tick was two runs", n+1, took, least)
	}
}

// TestStaleTick: a scheduled job that was submitted for a tick which another
// replica has served meanwhile runs nothing; a person's job does.
func TestStaleTick(t *testing.T) {
	t.Parallel()
	m := newMirror(t)
	m.osv(t, 2, "Go")
	in := install(t, 1, m.config("osv"))
	before, err := in.record.last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := in.run("osv"); err != nil {
		t.Fatal(err)
	}
	job, _, err := in.queue.Submit(t.Context(), Kind, "osv", request{After: before["osv"].started})
	if err != nil {
		t.Fatal(err)
	}
	if err := in.work(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	if n := m.count("GET /ecosystems.txt"); n != 1 {
		t.Errorf("the stale tick ran the set: %d runs", n)
	}
	// The tick of now does run, and again after an interruption.
	last, err := in.record.last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	job.Payload = marshal(t, request{After: last["osv"].started})
	for range 2 {
		if err := in.work(t.Context(), job); err != nil {
			t.Fatal(err)
		}
	}
	if n := m.count("GET /ecosystems.txt"); n != 3 {
		t.Errorf("%d runs, want 3", n)
	}
}

// TestRequests: what anyone publishes on tocsin.updates.
func TestRequests(t *testing.T) {
	t.Parallel()
	m := newMirror(t)
	m.osv(t, 2, "Go")
	m.kev(t, "CVE-2026-0001")
	cfg := m.config("osv", "kev")
	cfg.Schedules = map[string]string{"default": "off"}
	in := install(t, 2, cfg)
	in.start()
	hostile := []string{
		"not JSON", `{"set":7}`, `{"set":"osw"}`, `{"set":"debian"}`, `{"sets":["osv"]}`, `[]`, `{"set":"osv"}{"set":"kev"}`, "\x00\xff", `"osv"`,
		`{"set":"` + strings.Repeat("x", 5000) + `"}`, `{"set":"osv\u0000"}`,
	}
	for i, body := range hostile {
		if err := in.bus.Publish(t.Context(), bus.SubjectUpdates, fmt.Sprint("hostile-", i), []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := in.bus.Publish(t.Context(), bus.SubjectUpdates, "good", []byte(`{"set":"osv"}`)); err != nil {
		t.Fatal(err)
	}
	in.done("osv", 1)
	in.want("osv/go", Updated, 2)
	if n := m.count("GET /kev.json"); n != 0 {
		t.Error("kev ran unasked")
	}
	in.eventually("all bad messages kept", func() bool {
		return one[int](in.bench, `SELECT count(*) FROM tocsin.job WHERE kind = 'update' AND rejected AND state = 'failed' AND reason <> ''`) == len(hostile)
	})
	for i, all := range []string{`{}`, ``} {
		if err := in.bus.Publish(t.Context(), bus.SubjectUpdates, fmt.Sprint("all-", i), []byte(all)); err != nil {
			t.Fatal(err)
		}
		in.done("kev", i+1)
		in.done("osv", i+2)
	}
	in.eventually("an empty intake", func() bool {
		n, err := in.bus.Backlog(t.Context(), bus.StreamIntake, bus.SubjectUpdates)
		return err == nil && n == 0
	})
	if one[int](in.bench, `SELECT count(*) FROM tocsin.job WHERE rejected`) != len(hostile) {
		t.Error("a bad message was taken again")
	}
}

func TestRunNow(t *testing.T) {
	t.Parallel()
	m := newMirror(t)
	in := install(t, 1, m.config("osv", "kev"))
	got, err := in.RunNow(t.Context(), nil)
	if err != nil || len(got) != 2 {
		t.Fatalf("all sets are %v (%v)", got, err)
	}
	again, err := in.RunNow(t.Context(), []string{"clair.kev"})
	if err != nil || len(again) != 1 || again[0].Key != "kev" || !slices.ContainsFunc(got, func(j jobs.Job) bool { return j.ID == again[0].ID }) {
		t.Errorf("a set with a job gets %v (%v), want the job it has", again, err)
	}
	if _, err := in.RunNow(t.Context(), []string{"osw"}); !errors.Is(err, ErrUnknownSet) {
		t.Errorf("an unknown set gives %v", err)
	}
	if _, err := in.RunNow(t.Context(), []string{"debian"}); !errors.Is(err, ErrDisabledSet) {
		t.Errorf("a set that is not enabled gives %v", err)
	}
}

// TestNATSEmptied: a server that has lost everything delays a run, no more.
func TestNATSEmptied(t *testing.T) {
	t.Parallel()
	m := newMirror(t)
	m.osv(t, 2, "Go")
	cfg := m.config("osv")
	cfg.Schedules = map[string]string{"default": "off"}
	in := install(t, 1, cfg)
	if _, err := in.RunNow(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	in.nats.Empty()
	in.start()
	in.done("osv", 1)
	in.want("osv/go", Updated, 2)
}

// TestNoGoroutineStays: Run has ended what it started.
func TestNoGoroutineStays(t *testing.T) {
	m := newMirror(t)
	m.osv(t, 2, "Go")
	in := install(t, 1, m.config("osv"))
	in.start()
	in.done("osv", 1)
	in.stop()
	in.wait()
	stacks := make([]byte, 4<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for g := range strings.SplitSeq(string(stacks), "\n\n") {
		if strings.Contains(g, "updater.(*Service)") || strings.Contains(g, "updater.(*runner)") || strings.Contains(g, "jobs.(*Store)") {
			t.Errorf("still there after Run:\n%s", g)
		}
	}
}
