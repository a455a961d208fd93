package jobs_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"tocsin.dev/tocsin/internal/jobs"
)

func TestWaitingFor(t *testing.T) {
	o := fast()
	o.RunBy = map[string]string{"k": "runner of k"}
	f := setup(t, o)
	job := f.submit("a")
	waits := func(job jobs.Job, what string) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			got := f.store.WaitingFor(t.Context(), job)
			if strings.Contains(got, what) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("waiting for %q, want %q", got, what)
			}
		}
	}
	waits(job, "a process that runs k jobs, role runner of k: none is there")

	release, started := make(chan struct{}), make(chan struct{}, 2)
	f.run(f.store, 1, func(ctx context.Context, j jobs.Job) error {
		started <- struct{}{}
		select {
		case <-release:
		case <-ctx.Done():
		}
		if j.Key == "b" {
			return errors.New("not this time")
		}
		return nil
	})
	<-started
	second := f.submit("b")
	waits(second, "its turn: 1 being run, 1 waiting")
	if got := f.store.WaitingFor(t.Context(), f.await(job.ID, jobs.Running)); got != "" {
		t.Errorf("a running job waits for %q", got)
	}
	close(release)
	f.await(job.ID, jobs.Done)

	f.nats.Stop()
	third, _, err := f.store.Submit(t.Context(), "k", "c", nil)
	if err != nil {
		t.Fatal(err)
	}
	waits(third, "NATS, to which the server has no connection")
	f.nats.Start()
}
