package cli

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/internal/terminal"
)

type updatersCmd struct {
	Status updStatusCmd `cmd:"" default:"withargs" help:"How every updater fares (the default)."`
	List   updListCmd   `cmd:"" help:"Updater sets and their schedules."`
	Run    updRunCmd    `cmd:"" help:"Run updater sets now."`
	Export updExportCmd `cmd:"" help:"Write what the feeds say to an archive, for an installation without internet."`
	Import updImportCmd `cmd:"" help:"Load an archive."`
}

func (e *env) updaterSets() ([]v1.UpdaterSet, error) {
	cl, err := e.client()
	if err != nil {
		return nil, err
	}
	var page v1.Page[v1.UpdaterSet]
	return page.Items, cl.call(http.MethodGet, "/updaters", nil, nil, &page)
}

type updListCmd struct{}

func (updListCmd) Run(e *env) error {
	sets, err := e.updaterSets()
	if err != nil {
		return err
	}
	return e.print(sets, func() error {
		t := terminal.NewTable("SET", "SCHEDULE", "NEXT", "RUNNING", "UPDATERS")
		for _, s := range sets {
			running := ""
			if s.Running {
				running = "yes"
			}
			t.Row(s.Name, s.Schedule, e.ago(s.Next), running, len(s.Updaters))
		}
		return e.table(t, "No updater sets.")
	})
}

type updStatusCmd struct {
	Failed bool `help:"Only those whose last run failed."`
}

func (c updStatusCmd) Run(e *env) error {
	sets, err := e.updaterSets()
	if err != nil {
		return err
	}
	return e.print(sets, func() error {
		t := terminal.NewTable("SET", "UPDATER", "STATUS", "LAST RUN", "LAST SUCCESS", "ADVISORIES", "REF", "ERROR")
		for _, s := range sets {
			if s.Error != "" {
				t.Row(s.Name, "", e.state(s.Status), e.ago(s.LastRun), "", "", "", terminal.Clip(s.Error, 100))
			}
			for _, u := range s.Updaters {
				if c.Failed && u.Status != "failed" {
					continue
				}
				t.Row(s.Name, u.Name, e.state(u.Status), e.ago(u.LastRun), e.ago(u.LastOK), u.Fetched, u.Ref, terminal.Clip(u.Error, 100))
			}
		}
		return e.table(t, "No updater has run yet. `tocsin updaters run` runs them.")
	})
}

type updRunCmd struct {
	Sets []string `arg:"" optional:"" name:"set" help:"Updater sets; all if none is named."`
	Wait bool     `short:"w" help:"Wait until they have run."`
}

func (updRunCmd) Help() string {
	return "Examples:\n  tocsin updaters run\n  tocsin updaters run osv debian --wait"
}

func (c *updRunCmd) Run(e *env) error {
	cl, err := e.client()
	if err != nil {
		return err
	}
	sets := c.Sets
	if len(sets) == 0 {
		sets = []string{""}
	}
	jobs := []v1.Job{}
	for _, s := range sets {
		var page v1.Page[v1.Job]
		if err := cl.call(http.MethodPost, "/updates", nil, v1.UpdateRequest{Set: s}, &page); err != nil {
			return err
		}
		jobs = append(jobs, page.Items...)
	}
	failed := 0
	if c.Wait {
		for i, j := range jobs {
			if jobs[i], err = e.follow(cl, j); err != nil {
				return err
			}
			if jobs[i].Failed {
				failed++
			}
		}
	}
	if err := e.print(jobs, func() error { return e.jobs(jobs) }); err != nil {
		return err
	}
	if failed > 0 {
		return &hinted{error: fmt.Errorf("%s failed", terminal.Count(failed, "run")), hint: "`tocsin updaters status --failed` says why."}
	}
	return nil
}

type updExportCmd struct {
	configFlags
	File string   `arg:"" help:"File to write, compressed by its ending .gz or .zst; - for standard output."`
	Sets []string `name:"set" help:"Only these updater sets." placeholder:"SET"`
}

func (updExportCmd) Help() string {
	return `Needs the internet and the configuration, but no server and no database. Take the file to the installation without
internet and load it there with ` + "`tocsin updaters import`." + `

Example:
  tocsin updaters export feeds.json.zst --set osv --set debian`
}

func (c *updExportCmd) Run(e *env) error {
	cfg, err := c.valid(e)
	if err != nil {
		return err
	}
	out := e.out
	if c.File != "-" {
		f, err := os.Create(c.File)
		if err != nil {
			return fmt.Errorf("writing the archive: %w", err)
		}
		defer f.Close()
		out = f
	}
	defer e.progressEnd()
	if err := e.actions.ExportUpdaters(e.ctx, cfg, c.Sets, c.File, out, func(s string) { e.progress("%s", s) }); err != nil {
		return err
	}
	if f, ok := out.(*os.File); ok && c.File != "-" {
		if err := f.Sync(); err != nil {
			return fmt.Errorf("writing the archive: %w", err)
		}
	}
	e.progressEnd()
	e.notef("Wrote %s", c.File)
	return nil
}

type updImportCmd struct {
	File string `arg:"" help:"Archive to load, plain or compressed; - for standard input."`
}

func (c *updImportCmd) Run(e *env) error {
	cl, err := e.client()
	if err != nil {
		return err
	}
	in := e.in
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return fmt.Errorf("reading the archive: %w", err)
		}
		defer f.Close()
		in = f
	}
	e.progress("importing %s", c.File)
	var r v1.ImportResult
	err = cl.stream(http.MethodPost, "/updaters/import", io.NopCloser(in), &r)
	e.progressEnd()
	if err != nil {
		return err
	}
	return e.print(r, func() error { return e.printf("imported %s\n", terminal.Count(r.Updaters, "updater")) })
}

type jobsCmd struct {
	List  jobsListCmd  `cmd:"" default:"withargs" help:"List jobs, newest first (the default)."`
	Show  jobsShowCmd  `cmd:"" help:"Show one job."`
	Retry jobsRetryCmd `cmd:"" help:"Try failed jobs again."`
}

type jobsListCmd struct {
	Kind   string `help:"Only this kind: manifest or update." placeholder:"KIND"`
	State  string `help:"Only jobs in this state." placeholder:"STATE"`
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
	return e.print(jobs, func() error { return e.jobs(jobs) })
}

func (e *env) jobs(jobs []v1.Job) error {
	t := terminal.NewTable("ID", "KIND", "ABOUT", "STATE", "ATTEMPTS", "CREATED", "RESULT")
	for _, j := range jobs {
		result := j.Result
		switch {
		case j.Failed || j.Reason != "" && !j.Done:
			result = j.Reason
		case !j.Done:
			result = j.Progress
		}
		t.Row(j.ID, j.Kind, terminal.Clip(j.Key, 60), e.state(j.State), j.Attempts, e.ago(&j.CreatedAt), terminal.Clip(result, 100))
	}
	return e.table(t, "No jobs.")
}

type jobsShowCmd struct {
	ID string `arg:"" help:"Id of the job."`
}

func (c *jobsShowCmd) Run(e *env) error {
	cl, err := e.client()
	if err != nil {
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
	for i, id := range c.IDs {
		if err := cl.call(http.MethodPost, "/jobs/"+seg(id)+"/retry", nil, nil, &jobs[i]); err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
	}
	return e.print(jobs, func() error { return e.jobs(jobs) })
}

type tokensCmd struct {
	List   tokListCmd   `cmd:"" default:"withargs" help:"List tokens (the default)."`
	Create tokCreateCmd `cmd:"" help:"Make a token; it is printed once."`
	Revoke tokRevokeCmd `cmd:"" help:"End tokens for good."`
}

type tokListCmd struct{}

func (tokListCmd) Run(e *env) error {
	cl, err := e.client()
	if err != nil {
		return err
	}
	toks, err := list[v1.Token](cl, "/tokens", nil, 0)
	if err != nil {
		return err
	}
	return e.print(toks, func() error {
		t := terminal.NewTable("ID", "NAME", "OWNER", "SCOPES", "CREATED", "LAST USED", "EXPIRES")
		for _, k := range toks {
			t.Row(k.ID, k.Name, k.Owner, strings.Join(k.Scopes, " "), e.ago(&k.CreatedAt), e.ago(k.LastUsed), e.ago(k.ExpiresAt))
		}
		return e.table(t, "No tokens.")
	})
}

type tokCreateCmd struct {
	Name    string   `arg:"" help:"A name for people."`
	Scopes  []string `name:"scope" required:"" help:"What it may do: admin, read, publish, subscriptions. May be repeated." placeholder:"SCOPE"`
	Owner   string   `help:"Whose subscriptions it sees; default: its name." placeholder:"NAME"`
	Expires string   `help:"When it stops working, as 2026-12-31." placeholder:"TIME"`
}

func (tokCreateCmd) Help() string {
	return "Examples:\n  tocsin tokens create ci --scope publish\n  tocsin tokens create team-a --scope read,subscriptions --expires 2027-01-01"
}

func (c *tokCreateCmd) Run(e *env) error {
	r := v1.TokenRequest{Name: c.Name, Owner: c.Owner, Scopes: c.Scopes}
	if c.Expires != "" {
		t, err := moment(e.now(), c.Expires)
		if err != nil {
			return err
		}
		r.ExpiresAt = &t
	}
	cl, err := e.client()
	if err != nil {
		return err
	}
	var tok v1.Token
	if err := cl.call(http.MethodPost, "/tokens", nil, r, &tok); err != nil {
		return err
	}
	return e.print(tok, func() error {
		e.notef("Shown this once:")
		return e.printf("%s\n", tok.Secret)
	})
}

type tokRevokeCmd struct {
	IDs []string `arg:"" name:"id" help:"Ids of tokens."`
}

func (c *tokRevokeCmd) Run(e *env) error {
	cl, err := e.client()
	if err != nil {
		return err
	}
	for _, id := range c.IDs {
		if err := cl.call(http.MethodDelete, "/tokens/"+seg(id), nil, nil, nil); err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
		e.notef("revoked %s", id)
	}
	return nil
}
