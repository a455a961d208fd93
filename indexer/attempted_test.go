package indexer

import (
	"context"
	"errors"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"tocsin.dev/tocsin/internal/jobs"
)

// states is a job's life as Watch shows it, each state after a pause. Its other
// methods are not called.
type states struct {
	Jobs
	pause time.Duration
	list  []jobs.Job
}

func (s states) Hurry(context.Context, uuid.UUID) error { return nil }

func (s states) Watch(ctx context.Context, _ uuid.UUID) iter.Seq2[jobs.Job, error] {
	return func(yield func(jobs.Job, error) bool) {
		for _, j := range s.list {
			time.Sleep(s.pause)
			if !yield(j, nil) {
				return
			}
		}
		<-ctx.Done()
		yield(jobs.Job{}, ctx.Err())
	}
}

// An attempt's outcome is answered when it is there, not at the next look, and
// after one failure, whatever retries are to come.
func TestAttemptAnswersWithTheOutcome(t *testing.T) {
	t.Parallel()
	queued, running := jobs.Job{State: jobs.Queued}, jobs.Job{State: jobs.Running, Attempts: 1}
	again := jobs.Job{State: jobs.Queued, Attempts: 1, Reason: "connection refused"}
	for name, c := range map[string]struct {
		submitted jobs.Job
		list      []jobs.Job
		want      string
	}{
		"done":                  {queued, []jobs.Job{queued, running, {State: jobs.Done}}, ""},
		"failed once":           {queued, []jobs.Job{queued, running, again}, "connection refused"},
		"failed for good":       {queued, []jobs.Job{running, {State: jobs.Failed, Attempts: 1, Reason: "no"}}, "no"},
		"waited for its retry":  {again, []jobs.Job{again, {State: jobs.Running, Attempts: 2}, {State: jobs.Queued, Attempts: 2, Reason: "again"}}, "again"},
		"was running":           {running, []jobs.Job{running, again}, "connection refused"},
		"given back, then done": {running, []jobs.Job{{State: jobs.Queued}, running, {State: jobs.Done}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const pause = 7 * time.Millisecond
				ix := &Indexer{opts: Options{Jobs: states{pause: pause, list: c.list}}}
				begin := time.Now()
				err := ix.Attempt(t.Context(), c.submitted)
				if took := time.Since(begin); took != time.Duration(len(c.list))*pause {
					t.Errorf("it took %v, the job %v", took, time.Duration(len(c.list))*pause)
				}
				failed, _ := errors.AsType[*AttemptError](err)
				if c.want == "" && err != nil || c.want != "" && (failed == nil || failed.Reason != c.want) {
					t.Errorf("%v, want %q", err, c.want)
				}
			})
		})
	}
}
