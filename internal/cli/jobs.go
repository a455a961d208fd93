package cli

import (
	"fmt"
	"net/http"
	"net/url"

	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/internal/terminal"
)

type jobsCmd struct {
	List  jobsListCmd  `cmd:"" default:"withargs" help:"List jobs, newest first (the default)."`
	Show  jobsShowCmd  `cmd:"" help:"Show one job."`
	Retry jobsRetryCmd `cmd:"" help:"Try failed jobs again."`
}

type jobsListCmd struct {
	Kind   string `help:"Only this kind: manifest or update." placeholder:"KIND" predictor:"job-kind"`
	State  string `help:"Only jobs in this state." placeholder:"STATE" predictor:"job-state"`
	Failed bool   `help:"Only jobs that were given up, messages nobody understood among them."`
	Limit  int    `short:"n" help:"At most so many; 0 for all." default:"50"`
}

func (c *jobsListCmd) Run(e *env) error {
	cl, err := e.client()
	if err != nil {
		return err
	}
	q := url.Values{}
	setIf(q, "kind", c.Kind)
	setIf(q, "state", c.State)
	if c.Failed {
		q.Set("failed", "true")
	}
	jobs, err := list[v1.Job](cl, "/jobs", q, c.Limit)
	if err != nil {
		return err
	}
	return e.print(jobs, func() error {
		switch {
		case len(jobs) == 0 && (c.Failed || c.State == "failed"):
			e.notef("No job has failed.")
			return nil
		case len(jobs) == 0 && (c.State != "" || c.Kind != ""):
			e.notef("No such jobs.")
			return nil
		}
		return e.jobs(jobs)
	})
}

func (e *env) jobs(jobs []v1.Job) error {
	t := terminal.NewTable("ID", "KIND", "ABOUT", "STATE", "ATTEMPTS", "CREATED", "RESULT")
	for _, j := range jobs {
		result := j.Result
		switch {
		case j.Failed || j.Reason != "" && !j.Done:
			result = j.Reason
			if j.Messages > 1 {
				result = terminal.Count(j.Messages, "message") + ", the last: " + j.Reason
			}
		case !j.Done:
			result = j.Progress
		}
		t.Row(e.id(j.ID), j.Kind, terminal.Clip(j.Key, 60), e.state(j.State), j.Attempts, e.ago(&j.CreatedAt), terminal.Clip(result, 100))
	}
	return e.table(t, "No jobs.")
}

type jobsShowCmd struct {
	ID string `arg:"" help:"Id of the job, its beginning or end."`
}

func (c *jobsShowCmd) Run(e *env) error {
	cl, err := e.client()
	if err != nil {
		return err
	}
	if c.ID, err = cl.jobID(c.ID); err != nil {
		return err
	}
	var j v1.Job
	if err := cl.call(http.MethodGet, "/jobs/"+seg(c.ID), nil, nil, &j); err != nil {
		return err
	}
	return e.print(j, func() error {
		if err := e.jobs([]v1.Job{j}); err != nil {
			return err
		}
		if j.Message != "" {
			if err := e.printf("\n%s\n", terminal.Clean(j.Message)); err != nil {
				return err
			}
		}
		if j.WaitingFor != "" {
			if err := e.printf("\nWaiting for %s\n", terminal.Clean(j.WaitingFor)); err != nil {
				return err
			}
		}
		if j.Reason != "" {
			return e.printf("\n%s\n", terminal.Clean(j.Reason))
		}
		return nil
	})
}

type jobsRetryCmd struct {
	IDs []string `arg:"" name:"id" help:"Ids of jobs."`
}

func (c *jobsRetryCmd) Run(e *env) error {
	cl, err := e.client()
	if err != nil {
		return err
	}
	jobs := make([]v1.Job, len(c.IDs))
	for i, meant := range c.IDs {
		id, err := cl.jobID(meant)
		if err != nil {
			return err
		}
		if err := cl.call(http.MethodPost, "/jobs/"+seg(id)+"/retry", nil, nil, &jobs[i]); err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
	}
	return e.print(jobs, func() error { return e.jobs(jobs) })
}
