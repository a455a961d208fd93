package updater

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"tocsin.dev/tocsin/internal/jobs"
	"tocsin.dev/tocsin/internal/postgres"
)

// The environment of a process that runs one set and is killed.
const (
	childURL    = "TOCSIN_UPDATER_TEST_DATABASE"
	childMirror = "TOCSIN_UPDATER_TEST_MIRROR"
	childSet    = "TOCSIN_UPDATER_TEST_SET"
	childJob    = "TOCSIN_UPDATER_TEST_JOB"
)

// child runs the set as the process to be killed.
func child() {
	ctx := context.Background()
	pool, err := postgres.Open(ctx, os.Getenv(childURL))
	if err == nil {
		cfg := (&mirror{Server: serverAt(os.Getenv(childMirror))}).config(os.Getenv(childSet))
		var s *Service
		h := new(heard)
		if s, err = New(Options{Config: cfg, Pool: pool, Waker: h, Announcer: h, UpdateLock: 4242}); err == nil {
			err = s.work(ctx, jobs.Job{ID: uuid.MustParse(os.Getenv(childJob)), Key: os.Getenv(childSet), Payload: json.RawMessage(`{}`)})
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// start starts a child that runs the set and returns what kills it.
func (b *bench) start(m *mirror, set string, job uuid.UUID) (kill func()) {
	b.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childURL+"="+b.pool.Config().ConnString(), childMirror+"="+m.URL, childSet+"="+set, childJob+"="+job.String())
	cmd.Stderr = b.t.Output()
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	killed := false
	kill = func() {
		if !killed {
			killed = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	b.t.Cleanup(kill)
	return kill
}

// eventually polls until the condition holds.
func (b *bench) eventually(what string, holds func() bool) {
	b.t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if holds() {
			return
		}
	}
	b.t.Fatalf("%s: not within 30 s", what)
}

// waiting waits for a backend other than ours that waits for a lock.
func (b *bench) waiting() {
	b.t.Helper()
	b.eventually("a backend that waits for a lock", func() bool {
		return one[int](b, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) > 0
	})
}

// disconnect ends the backends that a killed process has left waiting, as the
// end of its machine would.
func (b *bench) disconnect() {
	b.t.Helper()
	one[int](b, `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`)
	b.eventually("the end of backends", func() bool {
		return one[int](b, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) == 0
	})
}

// TestKilled kills the process at each stage of an update: nothing is
// half-stored, and running the same job again completes it.
func TestKilled(t *testing.T) {
	t.Parallel()
	stages := []struct {
		name string
		set  string
		// until stops the child at the stage; wait returns when it is there.
		until func(b *bench, m *mirror) (wait, release func())
		// stored is how many operations the killed process left.
		stored int
	}{
		{name: "while fetching", set: "osv", until: func(_ *bench, m *mirror) (wait, release func()) {
			reached := make(chan struct{})
			m.hook("/Go/all.zip", func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Length", "1000000")
				_, _ = w.Write([]byte("PK"))
				_ = http.NewResponseController(w).Flush()
				close(reached)
				<-r.Context().Done()
			})
			return func() { <-reached }, func() { m.hook("/Go/all.zip", nil) }
		}},
		{name: "while storing", set: "osv", until: blocked(`LOCK TABLE vuln IN SHARE MODE`)},
		{name: "while storing enrichments", set: "kev", until: blocked(`LOCK TABLE enrichment IN SHARE MODE`)},
		{name: "after the commit", set: "osv", until: blocked(`REFRESH MATERIALIZED VIEW CONCURRENTLY latest_update_operations`), stored: 1},
		{name: "after the commit of enrichments", set: "kev", until: blocked(`REFRESH MATERIALIZED VIEW CONCURRENTLY latest_update_operations`), stored: 1},
	}
	for _, st := range stages {
		t.Run(st.name, func(t *testing.T) {
			t.Parallel()
			m := newMirror(t)
			m.osv(t, 50, "Go")
			m.kev(t, "CVE-2026-0001", "CVE-2026-0002")
			b := newBench(t, m.config(st.set))
			job := uuid.New()
			wait, release := st.until(b, m)
			kill := b.start(m, st.set, job)
			wait()
			kill()
			b.disconnect()
			release()

			b.eventually("the end of what the process began", func() bool {
				return one[int](b, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle' AND pid <> pg_backend_pid()`) == 0
			})
			if n := one[int](b, `SELECT count(*) FROM update_operation`); n != st.stored {
				t.Fatalf("the killed process left %d operations, want %d", n, st.stored)
			}
			if st.stored == 0 && one[int](b, `SELECT (SELECT count(*) FROM uo_vuln) + (SELECT count(*) FROM uo_enrich)`) != 0 {
				t.Fatal("the killed process left rows without an operation")
			}
			if s := b.set(st.set); s.Result != Running {
				t.Errorf("the interrupted run is %s, want running", s.Result)
			}
			if err := b.work(t.Context(), jobs.Job{ID: job, Key: st.set, Payload: json.RawMessage(`{}`)}); err != nil {
				t.Fatal(err)
			}
			if n := one[int](b, `SELECT count(*) FROM latest_update_operations`); n != 1 {
				t.Errorf("reports look at %d operations, want 1", n)
			}
			if n := one[int](b, `SELECT count(*) FROM update_operation`); n != 1 {
				t.Errorf("%d operations after the job ran again, want 1", n)
			}
			if b.woken() == 0 {
				t.Error("nobody was woken for what was stored")
			}
			name, rows := "osv/go", int64(50)
			if st.set == "kev" {
				name, rows = "clair.kev", 2
			}
			want := Updated
			if st.stored > 0 {
				want = Unchanged
			}
			b.want(name, want, rows)
		})
	}
}

// blocked takes a lock that the child has to wait for.
func blocked(sql string) func(*bench, *mirror) (wait, release func()) {
	return func(b *bench, _ *mirror) (wait, release func()) {
		tx, err := b.pool.Begin(b.t.Context())
		if err == nil {
			_, err = tx.Exec(b.t.Context(), sql)
		}
		if err != nil {
			b.t.Fatal(err)
		}
		release = func() { _ = tx.Rollback(context.Background()) }
		b.t.Cleanup(release)
		return b.waiting, release
	}
}

// TestSmallPool: claircore takes several connections at a time to store an
// update; that must not need more than the pool has.
func TestSmallPool(t *testing.T) {
	t.Parallel()
	m := newMirror(t)
	m.osv(t, 20, "Go", "npm")
	m.kev(t, "CVE-2026-0001")
	b := newBench(t, m.config("osv", "kev"))
	cfg := b.pool.Config()
	cfg.MaxConns = 1
	small, err := pgxpool.NewWithConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(small.Close)
	s, err := New(Options{Config: m.config("osv", "kev"), Pool: small, Waker: b, Announcer: b, UpdateLock: 4242})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, set := range []string{"osv", "kev"} {
		if err := s.work(ctx, jobs.Job{ID: uuid.New(), Key: set, Payload: json.RawMessage(`{}`)}); err != nil {
			t.Fatalf("%s on a pool of one connection: %v", set, err)
		}
	}
	b.want("osv/npm", Updated, 20)
	b.want("clair.kev", Updated, 1)
}
