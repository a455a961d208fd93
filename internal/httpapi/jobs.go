package httpapi

import (
	"context"
	"io"
	"net/http"

	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
)

// Jobs is the work queue: package internal/jobs.
type Jobs interface {
	List(ctx context.Context, q v1.JobQuery) (v1.Page[v1.Job], error)
	Get(ctx context.Context, id string) (v1.Job, error)
	// Retry queues a failed job again.
	Retry(ctx context.Context, id string) (v1.Job, error)
}

// Updaters drives the vulnerability feeds: package updater.
type Updaters interface {
	List(ctx context.Context) ([]v1.UpdaterSet, error)
	// Run queues a run of one set, or of all if set is empty.
	// accept lets what is held back of a set, or of one updater, through.
	Run(ctx context.Context, set string, accept bool) ([]v1.Job, error)
	// Import loads an airgap archive.
	Import(ctx context.Context, r io.Reader) (v1.ImportResult, error)
}

// IDParam names a thing in a path.
type IDParam struct {
	ID string `path:"id" format:"uuid" doc:"UUID"`
}

func (s *server) registerJobs() {
	type listIn struct {
		PageParams
		Kind   string `query:"kind" enum:"manifest,update" doc:"Only this kind"`
		State  string `query:"state" enum:"queued,running,done,failed" doc:"Only jobs in this state"`
		Failed bool   `query:"failed" doc:"Only jobs that were given up"`
	}
	add(s, get, "/jobs", "List jobs, newest first", looks, 0, func(ctx context.Context, in *listIn) (*body[v1.Page[v1.Job]], error) {
		if s.Services.Jobs == nil {
			return nil, absent("the job queue")
		}
		p, err := s.Services.Jobs.List(ctx, v1.JobQuery{Paging: in.page(), Kind: in.Kind, State: in.State, Failed: in.Failed})
		return &body[v1.Page[v1.Job]]{p}, err
	})
	add(s, get, "/jobs/{id}", "One job", looks, 0, func(ctx context.Context, in *IDParam) (*body[v1.Job], error) {
		if s.Services.Jobs == nil {
			return nil, absent("the job queue")
		}
		j, err := s.Services.Jobs.Get(ctx, in.ID)
		return &body[v1.Job]{j}, err
	})
	add(s, post, "/jobs/{id}/retry", "Try a failed job again", publishes, http.StatusAccepted, func(ctx context.Context, in *IDParam) (*body[v1.Job], error) {
		if s.Services.Jobs == nil {
			return nil, absent("the job queue")
		}
		j, err := s.Services.Jobs.Retry(ctx, in.ID)
		return &body[v1.Job]{j}, err
	})

	add(s, get, "/updaters", "Updater sets, their schedules and how their updaters fare", reads, 0,
		func(ctx context.Context, _ *struct{}) (*body[v1.Page[v1.UpdaterSet]], error) {
			if s.Services.Updaters == nil {
				return nil, absent("the updater")
			}
			sets, err := s.Services.Updaters.List(ctx)
			return &body[v1.Page[v1.UpdaterSet]]{v1.Page[v1.UpdaterSet]{Items: sets}}, err
		})
	type runIn struct{ Body v1.UpdateRequest }
	add(s, post, "/updates", "Run an updater set now, or all", publishes, http.StatusAccepted,
		func(ctx context.Context, in *runIn) (*body[v1.Page[v1.Job]], error) {
			if s.Services.Updaters == nil {
				return nil, absent("the updater")
			}
			note(ctx, in.Body.Set, map[string]any{"accept": in.Body.Accept})
			jobs, err := s.Services.Updaters.Run(ctx, in.Body.Set, in.Body.Accept)
			return &body[v1.Page[v1.Job]]{v1.Page[v1.Job]{Items: jobs}}, err
		})
}
