package jobs_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/bus"
	"tocsin.dev/tocsin/internal/jobs"
	"tocsin.dev/tocsin/internal/traceparent"
)

func TestSubmitOneActiveAKey(t *testing.T) {
	f := setup(t, fast())
	first := f.submit("a")
	again, isNew, err := f.store.Submit(t.Context(), "k", "a", "other")
	if err != nil || isNew || again.ID != first.ID || string(again.Payload) != `{"key":"a"}` {
		t.Fatalf("second submit: %+v, new %v, %v", again, isNew, err)
	}
	if other := f.submit("b"); other.ID == first.ID {
		t.Error("another key, the same job")
	}
	f.run(f.store, 1, func(context.Context, jobs.Job) error { return nil })
	f.await(first.ID, jobs.Done)
	if next := f.submit("a"); next.ID == first.ID {
		t.Error("a job that has ended is active")
	}
}

func TestSubmitRefuses(t *testing.T) {
	f := setup(t, fast())
	for name, c := range map[string]struct {
		kind, key string
		payload   any
	}{
		"no key":         {"k", "", 1},
		"NUL in the key": {"k", "a\x00b", 1},
		"bytes":          {"k", "\xff", 1},
		"kind":           {"K!", "a", 1},
		"not JSON":       {"k", "a", func() {}},
		"large payload":  {"k", "a", strings.Repeat("x", jobs.MaxPayload)},
	} {
		if _, _, err := f.store.Submit(t.Context(), c.kind, c.key, c.payload); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestRunDone(t *testing.T) {
	f := setup(t, fast())
	job := f.submit("a")
	f.run(f.store, 1, func(ctx context.Context, j jobs.Job) error {
		if j.ID != job.ID || j.State != jobs.Running || j.Attempts != 1 || string(j.Payload) != `{"key":"a"}` {
			t.Errorf("handed over %+v", j)
		}
		jobs.Progress(ctx, "half\x00way")
		jobs.Result(ctx, "sha256:1")
		return nil
	})
	got := f.await(job.ID, jobs.Done, jobs.Failed)
	if got.State != jobs.Done || got.Result != "sha256:1" || got.Progress != "half\uFFFDway" || got.Reason != "" {
		t.Errorf("ended as %+v", got)
	}
}

func TestTraceContextOfTheSubmitter(t *testing.T) {
	f := setup(t, fast())
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	seen := make(chan string, 2)
	f.run(f.store, 1, func(ctx context.Context, _ jobs.Job) error {
		seen <- traceparent.From(ctx)
		return nil
	})
	if _, _, err := f.store.Submit(traceparent.Into(t.Context(), parent), "k", "a", 1); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, seen); got != parent {
		t.Errorf("runs in %q", got)
	}
	f.submit("b")
	if got := receive(t, seen); len(got) != len(parent) || got == parent {
		t.Errorf("without one it runs in %q", got)
	}
}

func TestFailuresAreTriedAgain(t *testing.T) {
	f := setup(t, fast())
	job := f.submit("a")
	f.run(f.store, 1, func(_ context.Context, j jobs.Job) error {
		switch j.Attempts {
		case 1:
			return errors.New("out of luck")
		case 2:
			if j.Reason != "out of luck" {
				t.Errorf("the reason of the attempt before is %q", j.Reason)
			}
			panic("out of mind")
		}
		if !strings.HasPrefix(j.Reason, "panic: out of mind") {
			t.Errorf("the reason of the attempt before is %q", j.Reason)
		}
		return nil
	})
	if got := f.await(job.ID, jobs.Done, jobs.Failed); got.State != jobs.Done || got.Attempts != 3 || got.Reason != "" {
		t.Errorf("ended as %+v", got)
	}
}

func TestGivesUp(t *testing.T) {
	o := fast()
	failed := make(chan jobs.Job, 4)
	refuse := make(chan struct{}, 1)
	refuse <- struct{}{}
	o.OnFailed = func(ctx context.Context, tx pgx.Tx, j jobs.Job) error {
		if _, err := tx.Exec(ctx, `INSERT INTO told VALUES (@id)`, pgx.NamedArgs{"id": j.ID}); err != nil {
			return err
		}
		select {
		case <-refuse:
			return errors.New("not now")
		default:
		}
		failed <- j
		return nil
	}
	f := setup(t, o)
	if _, err := f.pool.Exec(t.Context(), `CREATE TABLE told (id uuid PRIMARY KEY)`); err != nil {
		t.Fatal(err)
	}
	permanent, poison := f.submit("permanent"), f.submit("poison")
	f.run(f.store, 1, func(_ context.Context, j jobs.Job) error {
		if j.Key == "permanent" {
			return fmt.Errorf("in vain: %w", jobs.Permanent(errors.New("no such image")))
		}
		return errors.New("poison")
	})
	for _, want := range []struct {
		job      jobs.Job
		attempts int
		reason   string
	}{{permanent, 1, "in vain: no such image"}, {poison, 3, "poison"}} {
		got := f.await(want.job.ID, jobs.Done, jobs.Failed)
		if got.State != jobs.Failed || got.Attempts != want.attempts || got.Reason != want.reason {
			t.Errorf("%s ended as %+v", want.job.Key, got)
		}
		receive(t, failed)
	}
	var told int
	if err := f.pool.QueryRow(t.Context(), `SELECT count(*) FROM told`).Scan(&told); err != nil || told != 2 {
		t.Errorf("told of %d failed jobs (%v), want 2", told, err)
	}
}

func TestReject(t *testing.T) {
	o := fast()
	told := 0
	o.OnFailed = func(_ context.Context, _ pgx.Tx, j jobs.Job) error {
		told++
		if !j.Rejected || j.State != jobs.Failed {
			t.Errorf("told of %+v", j)
		}
		return nil
	}
	f := setup(t, o)
	message := []byte("\x00\xff{" + strings.Repeat("x", 10_000))
	first, err := f.store.Reject(t.Context(), "k", message, "not JSON\x00")
	if err != nil {
		t.Fatal(err)
	}
	again, err := f.store.Reject(t.Context(), "k", message, "not JSON")
	if err != nil || again.ID != first.ID || told != 1 {
		t.Errorf("handed over twice: %v and %v, told %d times, %v", first.ID, again.ID, told, err)
	}
	var text string
	if err := json.Unmarshal(first.Payload, &text); err != nil || !strings.HasPrefix(text, "\uFFFD\uFFFD{xxx") || len(text) > 5000 {
		t.Errorf("kept %d bytes: %.20q, %v", len(text), text, err)
	}
	if first.Reason != "not JSON\uFFFD" {
		t.Errorf("reason %q", first.Reason)
	}
	if _, err := f.store.Retry(t.Context(), first.ID); !errors.Is(err, jobs.ErrRejected) {
		t.Errorf("retry: %v", err)
	}
}

func TestRetry(t *testing.T) {
	f := setup(t, fast())
	job := f.submit("a")
	if _, err := f.store.Retry(t.Context(), job.ID); !errors.Is(err, jobs.ErrNotFailed) {
		t.Errorf("retry of a queued job: %v", err)
	}
	if _, err := f.store.Retry(t.Context(), uuid.New()); !errors.Is(err, jobs.ErrNotFound) {
		t.Errorf("retry of no job: %v", err)
	}
	mended := make(chan struct{})
	f.run(f.store, 1, func(context.Context, jobs.Job) error {
		select {
		case <-mended:
			return nil
		default:
			return jobs.Permanent(errors.New("broken"))
		}
	})
	f.await(job.ID, jobs.Failed)
	close(mended)
	if _, err := f.store.Retry(t.Context(), job.ID); err != nil {
		t.Fatal(err)
	}
	if got := f.await(job.ID, jobs.Done, jobs.Failed); got.State != jobs.Done || got.Attempts != 1 {
		t.Errorf("ended as %+v", got)
	}
}

func TestRetryBesideAnActiveJob(t *testing.T) {
	f := setup(t, fast())
	job := f.submit("a")
	stop := f.run(f.store, 1, func(context.Context, jobs.Job) error { return jobs.Permanent(errors.New("broken")) })
	f.await(job.ID, jobs.Failed)
	stop()
	f.submit("a")
	if _, err := f.store.Retry(t.Context(), job.ID); !errors.Is(err, jobs.ErrActive) {
		t.Errorf("got %v", err)
	}
}

func TestList(t *testing.T) {
	f := setup(t, fast())
	const n = 7
	for i := range n {
		f.submit(fmt.Sprint(i))
	}
	if _, err := f.store.Reject(t.Context(), "other", []byte("?"), "what"); err != nil {
		t.Fatal(err)
	}
	var keys []string
	filter := jobs.Filter{Kind: "k", Limit: 3}
	for {
		page, err := f.store.List(t.Context(), filter)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for _, j := range page {
			keys = append(keys, j.Key)
		}
		filter.Before = page[len(page)-1].ID
	}
	if got := strings.Join(keys, ""); got != "6543210" {
		t.Errorf("pages have %s", got)
	}
	for name, c := range map[string]struct {
		filter jobs.Filter
		want   int
	}{
		"all":    {jobs.Filter{}, n + 1},
		"failed": {jobs.Filter{State: jobs.Failed}, 1},
		"queued": {jobs.Filter{State: jobs.Queued}, n},
		"key":    {jobs.Filter{Key: "3"}, 1},
		"none":   {jobs.Filter{Kind: "other", State: jobs.Done}, 0},
	} {
		if got, err := f.store.List(t.Context(), c.filter); err != nil || len(got) != c.want {
			t.Errorf("%s: %d jobs (%v), want %d", name, len(got), err, c.want)
		}
	}
}

func TestWatch(t *testing.T) {
	f := setup(t, fast())
	job := f.submit("a")
	seen := make(chan string)
	go func() {
		defer close(seen)
		for j, err := range f.store.Watch(t.Context(), job.ID) {
			if err != nil {
				t.Error(err)
				return
			}
			seen <- j.State + " " + j.Progress
		}
	}()
	if s := receive(t, seen); s != "queued " {
		t.Errorf("first %q", s)
	}
	goOn := make(chan struct{})
	f.run(f.store, 1, func(ctx context.Context, _ jobs.Job) error {
		jobs.Progress(ctx, "half")
		<-goOn
		jobs.Progress(ctx, "all")
		return nil
	})
	for s := range seen {
		if s == "running half" {
			close(goOn)
			break
		}
	}
	last := ""
	for s := range seen {
		last = s
	}
	if last != "done all" {
		t.Errorf("last %q", last)
	}
	for _, err := range f.store.Watch(t.Context(), uuid.New()) {
		if !errors.Is(err, jobs.ErrNotFound) {
			t.Errorf("no such job: %v", err)
		}
	}
}

func TestGarbageAmongTheMessages(t *testing.T) {
	f := setup(t, fast())
	b := f.nats.Connect()
	for _, data := range []string{"", "garbage", uuid.NewString()} {
		if err := b.Publish(t.Context(), bus.SubjectJobs+"k", "", []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	f.run(f.store, 1, func(context.Context, jobs.Job) error { return nil })
	f.await(f.submit("a").ID, jobs.Done)
	for {
		n, err := b.Backlog(t.Context(), bus.StreamJobs, bus.SubjectJobs+"k")
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return
		}
	}
}
