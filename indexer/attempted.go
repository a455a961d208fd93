package indexer

import (
	"context"
	"errors"
	"strings"

	"tocsin.dev/tocsin/internal/jobs"
)

// AttemptError is why an attempt at indexing a manifest failed.
type AttemptError struct {
	Reason string
	// Unsupported says that the layers are not ones that can be scanned, whatever
	// is done elsewhere: no retry can mend it.
	Unsupported bool
}

// Error implements error.
func (e *AttemptError) Error() string { return e.Reason }

// notTar is how the reason of a layer that is no archive ends.
const notTar = "it is not a tar archive"

// Attempt waits until a job that [Indexer.Submit] returned is done, or one
// attempt at it has failed, which is an [*AttemptError]: the job may go on after
// that. A job that waits between two attempts is tried at once. A job whose
// runner ends without an outcome is waited for.
func (ix *Indexer) Attempt(ctx context.Context, job jobs.Job) error {
	if err := ix.opts.Jobs.Hurry(ctx, job.ID); err != nil {
		return err
	}
	// A running job has its attempt counted already.
	failed := job.Attempts
	if job.State != jobs.Running {
		failed++
	}
	for j, err := range ix.opts.Jobs.Watch(ctx, job.ID) {
		switch {
		case err != nil:
			return err
		case j.State == jobs.Done:
			return nil
		case j.State == jobs.Failed, j.State == jobs.Queued && j.Attempts >= failed:
			return &AttemptError{Reason: j.Reason, Unsupported: strings.HasSuffix(j.Reason, notTar)}
		}
	}
	return errors.Join(ctx.Err(), errors.New("the job is gone"))
}
