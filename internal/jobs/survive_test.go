package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/bus"
	"tocsin.dev/tocsin/internal/jobs"
)

// kill runs a process that takes a job and is killed while it has it.
func (f *fixture) kill() {
	f.t.Helper()
	cmd := exec.CommandContext(f.t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), envChildDatabase+"="+f.pool.Config().ConnString(), envChildNATS+"="+f.nats.URL())
	out, err := cmd.CombinedOutput()
	ee, ok := errors.AsType[*exec.ExitError](err)
	if !ok || ee.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		f.t.Fatalf("child: %v\n%s", err, out)
	}
}

func TestRunnerKilled(t *testing.T) {
	f := setup(t, fast())
	job := f.submit("a")
	f.kill()
	if got, err := f.store.Get(t.Context(), job.ID); err != nil || got.State != jobs.Running {
		t.Fatalf("after the kill: %+v, %v", got, err)
	}
	f.run(f.store, 1, func(context.Context, jobs.Job) error { return nil })
	if got := f.await(job.ID, jobs.Done, jobs.Failed); got.State != jobs.Done || got.Attempts != 2 {
		t.Errorf("ended as %+v", got)
	}
}

func TestJobThatKillsItsRunner(t *testing.T) {
	o := fast()
	o.Policies["k"] = jobs.Policy{MaxAttempts: 2}
	f := setup(t, o)
	job := f.submit("a")
	for range 2 {
		f.kill()
	}
	f.run(f.store, 1, func(context.Context, jobs.Job) error {
		t.Error("run a third time")
		return nil
	})
	got := f.await(job.ID, jobs.Done, jobs.Failed)
	if got.State != jobs.Failed || !strings.Contains(got.Reason, "ended or lost touch 2 times") {
		t.Errorf("ended as %+v", got)
	}
}

// A submitter that is killed between row and message leaves a row.
func TestRowWithoutMessage(t *testing.T) {
	f := setup(t, fast())
	var id uuid.UUID
	if err := f.pool.QueryRow(t.Context(), `INSERT INTO tocsin.job (kind, key, payload) VALUES ('k', 'a', '{}') RETURNING id`).Scan(&id); err != nil {
		t.Fatal(err)
	}
	f.run(f.store, 1, func(context.Context, jobs.Job) error { return nil })
	f.await(id, jobs.Done)
}

// A runner that is killed between row and acknowledgement leaves a message for
// a job that is done.
func TestMessageOfADoneJob(t *testing.T) {
	f := setup(t, fast())
	var runs atomic.Int32
	f.run(f.store, 2, func(context.Context, jobs.Job) error {
		runs.Add(1)
		return nil
	})
	job := f.submit("a")
	f.await(job.ID, jobs.Done)
	b := f.nats.Connect()
	if err := b.Publish(t.Context(), bus.SubjectJobs+"k", "", []byte(job.ID.String())); err != nil {
		t.Fatal(err)
	}
	f.await(f.submit("b").ID, jobs.Done)
	f.await(f.submit("c").ID, jobs.Done)
	if n := runs.Load(); n != 3 {
		t.Errorf("%d runs of 3 jobs", n)
	}
}

func TestNATSAwayWhileSubmitting(t *testing.T) {
	f := setup(t, fast())
	f.nats.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	job, _, err := f.store.Submit(ctx, "k", "a", 1)
	if err != nil {
		t.Fatal(err)
	}
	f.run(f.store, 1, func(context.Context, jobs.Job) error { return nil })
	f.nats.Start()
	f.await(job.ID, jobs.Done)
}

func TestJetStreamEmptied(t *testing.T) {
	f := setup(t, fast())
	var ids []uuid.UUID
	for i := range 20 {
		ids = append(ids, f.submit(fmt.Sprint(i)).ID)
	}
	f.nats.Empty()
	f.run(f.store, 2, func(context.Context, jobs.Job) error { return nil })
	for _, id := range ids {
		f.await(id, jobs.Done)
	}
}

func TestJetStreamEmptiedUnderTheRunner(t *testing.T) {
	f := setup(t, fast())
	started, goOn := make(chan struct{}, 1), make(chan struct{})
	f.run(f.store, 1, func(_ context.Context, j jobs.Job) error {
		if j.Key == "a" {
			started <- struct{}{}
			<-goOn
		}
		return nil
	})
	a := f.submit("a")
	receive(t, started)
	b := f.submit("b")
	f.nats.Empty()
	close(goOn)
	if got := f.await(a.ID, jobs.Done, jobs.Failed); got.Attempts != 1 {
		t.Errorf("ended as %+v", got)
	}
	f.await(b.ID, jobs.Done)
}

func TestConnectionsToPostgresCut(t *testing.T) {
	f := setup(t, fast())
	const n = 30
	var ids []uuid.UUID
	for i := range n {
		ids = append(ids, f.submit(fmt.Sprint(i)).ID)
	}
	cut := make(chan struct{}, n)
	f.run(f.store, 2, func(context.Context, jobs.Job) error {
		cut <- struct{}{}
		return nil
	})
	admin, err := pgx.ConnectConfig(t.Context(), f.pool.Config().ConnConfig)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(t.Context())
	for range 5 {
		receive(t, cut)
		if _, err := admin.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range ids {
		if got := f.await(id, jobs.Done, jobs.Failed); got.State != jobs.Done {
			t.Errorf("ended as %+v", got)
		}
	}
}

func TestTwoRunnersShare(t *testing.T) {
	f := setup(t, fast())
	const n = 40
	var mu sync.Mutex
	active, runs := map[uuid.UUID]bool{}, map[uuid.UUID]int{}
	var both sync.WaitGroup
	both.Add(2)
	for range 2 {
		var first sync.Once
		f.run(jobs.New(f.pool, f.nats.Connect(), fast()), 2, func(_ context.Context, j jobs.Job) error {
			// Neither can do all the work: each waits for the other's first job.
			first.Do(func() { both.Done(); both.Wait() })
			mu.Lock()
			if active[j.ID] {
				t.Errorf("job %s runs twice at once", j.Key)
			}
			active[j.ID] = true
			runs[j.ID]++
			mu.Unlock()
			defer func() {
				mu.Lock()
				defer mu.Unlock()
				active[j.ID] = false
			}()
			return nil
		})
	}
	for i := range n {
		f.submit(fmt.Sprint(i))
	}
	for {
		done, err := f.store.List(t.Context(), jobs.Filter{State: jobs.Done, Limit: n})
		if err != nil {
			t.Fatal(err)
		}
		if len(done) == n {
			break
		}
		time.Sleep(10 * time.Millisecond) // between two polls
	}
	mu.Lock()
	defer mu.Unlock()
	for id, r := range runs {
		if r != 1 {
			t.Errorf("job %s ran %d times", id, r)
		}
	}
}

func TestLongJobKeepsItsLease(t *testing.T) {
	o := fast()
	o.Lease = 2 * time.Second
	f := setup(t, o)
	var runs atomic.Int32
	do := func(ctx context.Context, j jobs.Job) error {
		runs.Add(1)
		select {
		case <-time.After(5 * time.Second): // more than two leases
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	f.run(f.store, 1, do)
	f.run(jobs.New(f.pool, f.nats.Connect(), o), 1, do)
	job := f.submit("a")
	if got := f.await(job.ID, jobs.Done, jobs.Failed); got.State != jobs.Done || got.Attempts != 1 || runs.Load() != 1 {
		t.Errorf("%d runs, ended as %+v", runs.Load(), got)
	}
}

func TestLeaseLost(t *testing.T) {
	o := fast()
	o.Lease = time.Second
	f := setup(t, o)
	started := make(chan struct{}, 1)
	ended := make(chan error, 1)
	stop := f.run(f.store, 1, func(ctx context.Context, j jobs.Job) error {
		started <- struct{}{}
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return nil // it thinks that it has done it
	})
	job := f.submit("a")
	receive(t, started)
	// As another runner does that finds the lease over.
	if _, err := f.pool.Exec(t.Context(), `UPDATE tocsin.job SET fence = fence + 1, attempts = attempts + 1, lease_until = now() + interval '1 minute' WHERE id = @id`, pgx.NamedArgs{"id": job.ID}); err != nil {
		t.Fatal(err)
	}
	if err := receive(t, ended); !errors.Is(err, jobs.ErrLeaseLost) {
		t.Errorf("its context ended with %v", err)
	}
	stop()
	if got, err := f.store.Get(t.Context(), job.ID); err != nil || got.State != jobs.Running || got.Attempts != 2 {
		t.Errorf("its outcome counted: %+v, %v", got, err)
	}
}

func TestStopGivesBack(t *testing.T) {
	f := setup(t, fast())
	started := make(chan struct{}, 1)
	stop := f.run(f.store, 1, func(ctx context.Context, _ jobs.Job) error {
		started <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	})
	job := f.submit("a")
	receive(t, started)
	stop()
	got, err := f.store.Get(t.Context(), job.ID)
	if err != nil || got.State != jobs.Queued || got.Attempts != 0 {
		t.Errorf("given back as %+v, %v", got, err)
	}
	f.run(jobs.New(f.pool, f.nats.Connect(), fast()), 1, func(context.Context, jobs.Job) error { return nil })
	if got := f.await(job.ID, jobs.Done); got.Attempts != 1 {
		t.Errorf("ended as %+v", got)
	}
}
