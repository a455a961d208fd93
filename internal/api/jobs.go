package api

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"tocsin.dev/tocsin/internal/httpapi"
	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/internal/jobs"
)

// jobQueue answers httpapi.Jobs with the job store.
type jobQueue struct{ store *jobs.Store }

func (s jobQueue) List(ctx context.Context, q v1.JobQuery) (v1.Page[v1.Job], error) {
	f := jobs.Filter{Kind: q.Kind, State: q.State, Limit: q.Limit}
	if q.Failed {
		f.State = jobs.Failed
	}
	if q.Cursor != "" {
		id, err := uuid.Parse(q.Cursor)
		if err != nil {
			return v1.Page[v1.Job]{}, badCursor(q.Cursor)
		}
		f.Before = id
	}
	found, err := s.store.List(ctx, f)
	if err != nil {
		return v1.Page[v1.Job]{}, err
	}
	page := v1.Page[v1.Job]{Items: make([]v1.Job, len(found))}
	for i, j := range found {
		page.Items[i] = toJob(j)
	}
	if q.Limit > 0 && len(found) == q.Limit {
		page.Next = found[len(found)-1].ID.String()
	}
	return page, nil
}

func (s jobQueue) Get(ctx context.Context, id string) (v1.Job, error) {
	var waiting string
	job, err := s.one(ctx, id, func(ctx context.Context, id uuid.UUID) (jobs.Job, error) {
		j, err := s.store.Get(ctx, id)
		if err == nil {
			waiting = s.store.WaitingFor(ctx, j)
		}
		return j, err
	})
	job.WaitingFor = waiting
	return job, err
}

func (s jobQueue) Retry(ctx context.Context, id string) (v1.Job, error) {
	return s.one(ctx, id, s.store.Retry)
}

func (s jobQueue) one(ctx context.Context, id string, do func(context.Context, uuid.UUID) (jobs.Job, error)) (v1.Job, error) {
	u, err := uuid.Parse(id)
	if err != nil {
		return v1.Job{}, fmt.Errorf("%w: a job's id is a UUID", httpapi.ErrNotFound)
	}
	j, err := do(ctx, u)
	switch {
	case err == nil:
		return toJob(j), nil
	case errors.Is(err, jobs.ErrNotFound):
		return v1.Job{}, refused(httpapi.ErrNotFound, err)
	case errors.Is(err, jobs.ErrNotFailed), errors.Is(err, jobs.ErrRejected), errors.Is(err, jobs.ErrActive):
		return v1.Job{}, refused(httpapi.ErrConflict, err)
	}
	return v1.Job{}, err
}

func toJob(j jobs.Job) v1.Job {
	messages := 0
	if j.Rejected {
		messages = int(j.Messages)
	}
	return v1.Job{
		Messages: messages,
		Message:  j.Message(), ID: j.ID.String(), Kind: j.Kind, Key: j.Key, State: j.State, Attempts: j.Attempts, Reason: j.Reason,
		Progress: j.Progress, Result: j.Result, CreatedAt: j.CreatedAt, UpdatedAt: j.UpdatedAt,
		Done: j.State == jobs.Done, Failed: j.State == jobs.Failed,
	}
}
