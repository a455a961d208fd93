package jobs_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"tocsin.dev/tocsin/internal/bus"
	"tocsin.dev/tocsin/internal/bus/bustest"
	"tocsin.dev/tocsin/internal/jobs"
	"tocsin.dev/tocsin/internal/postgres"
	"tocsin.dev/tocsin/internal/postgres/postgrestest"
)

// Environment of a child process that runs jobs until one has it killed.
const (
	envChildDatabase = "TOCSIN_JOBS_CHILD_DATABASE"
	envChildNATS     = "TOCSIN_JOBS_CHILD_NATS"
)

func TestMain(m *testing.M) {
	if os.Getenv(envChildDatabase) != "" {
		child()
		return
	}
	postgrestest.Main(m)
}

// child runs jobs of kind k and is killed by the first.
func child() {
	ctx := context.Background()
	pool, err := postgres.Open(ctx, os.Getenv(envChildDatabase))
	if err != nil {
		panic(err)
	}
	b, err := bus.Connect(ctx, os.Getenv(envChildNATS), bus.Options{})
	if err != nil {
		panic(err)
	}
	o := fast()
	o.Lease = time.Second // which the test waits for
	err = jobs.New(pool, b, o).Run(ctx, "k", 1, func(context.Context, jobs.Job) error {
		return syscall.Kill(os.Getpid(), syscall.SIGKILL)
	})
	panic(err)
}

// fast are options with waits that a test can afford.
func fast() jobs.Options {
	return jobs.Options{
		Lease:      10 * time.Second,
		SweepEvery: 200 * time.Millisecond,
		Policies:   map[string]jobs.Policy{"k": {MaxAttempts: 3, MinBackoff: 20 * time.Millisecond, MaxBackoff: 50 * time.Millisecond}},
	}
}

// A fixture is what most tests need.
type fixture struct {
	t     *testing.T
	pool  *pgxpool.Pool
	nats  *bustest.Server
	store *jobs.Store
}

func setup(t *testing.T, o jobs.Options) *fixture {
	t.Helper()
	t.Parallel()
	f := &fixture{t: t, pool: postgrestest.New(t), nats: bustest.NewServer(t)}
	f.store = jobs.New(f.pool, f.nats.Connect(), o)
	return f
}

// run runs jobs of kind k until stop or the end of the test.
func (f *fixture) run(s *jobs.Store, n int, do func(context.Context, jobs.Job) error) (stop func()) {
	f.t.Helper()
	ctx, cancel := context.WithCancel(f.t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, "k", n, do) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			f.t.Errorf("run: %v", err)
		}
	})
	f.t.Cleanup(stop)
	return stop
}

func (f *fixture) submit(key string) jobs.Job {
	f.t.Helper()
	job, isNew, err := f.store.Submit(f.t.Context(), "k", key, map[string]string{"key": key})
	if err != nil || !isNew {
		f.t.Fatalf("submit %s: new %v, %v", key, isNew, err)
	}
	return job
}

// await waits until the job is in one of the states.
func (f *fixture) await(id uuid.UUID, states ...string) jobs.Job {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 60*time.Second)
	defer cancel()
	for {
		job, err := f.store.Get(ctx, id)
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			// The database may be on its way back.
			f.t.Logf("get: %v", err)
		}
		if err == nil && slices.Contains(states, job.State) {
			return job
		}
		select {
		case <-ctx.Done():
			f.t.Fatalf("job %+v is not %v in time", job, states)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func receive[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(60 * time.Second):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}
