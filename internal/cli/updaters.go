package cli

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"

	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/internal/terminal"
)

type updatersCmd struct {
	Status updStatusCmd `cmd:"" default:"withargs" help:"How every updater fares (the default)."`
	List   updListCmd   `cmd:"" help:"Updater sets and their schedules."`
	Run    updRunCmd    `cmd:"" help:"Run updater sets now."`
	Accept updAcceptCmd `cmd:"" help:"Let an update through that is held back because its feed has shrunk."`
	Export updExportCmd `cmd:"" help:"Write the feeds to an archive, for an installation without internet."`
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
		t := terminal.NewTable("SET", "SCHEDULE", "NEXT", "RUNNING", "UPDATERS", "ABOUT", "FIXED ADDRESSES")
		for _, s := range sets {
			schedule, running := s.Schedule, ""
			if !s.Enabled {
				schedule = "not enabled"
			}
			if s.Running {
				running = "yes"
			}
			t.Row(s.Name, schedule, e.ago(s.Next), running, len(s.Updaters), s.About, s.Fixed)
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
	ran := slices.ContainsFunc(sets, func(s v1.UpdaterSet) bool { return len(s.Updaters) > 0 })
	none := "No updater has run yet. `tocsin updaters run` runs them."
	if c.Failed {
		sets = failedOnly(sets)
		if ran {
			none = "No updater's last run failed."
		}
	}
	return e.print(sets, func() error {
		t := terminal.NewTable("SET", "UPDATER", "STATUS", "LAST RUN", "LAST SUCCESS", "ADVISORIES", "REF", "ERROR")
		for _, s := range sets {
			if s.Error != "" {
				t.Row(s.Name, "", e.state(s.Status), e.ago(s.LastRun), "", "", "", terminal.Clip(s.Error, 100))
			}
			for _, u := range s.Updaters {
				t.Row(s.Name, u.Name, e.state(u.Status), e.ago(u.LastRun), e.ago(u.LastOK), u.Fetched, u.Ref, terminal.Clip(u.Error, 100))
			}
		}
		return e.table(t, none)
	})
}

// failedOnly keeps what failed in its last run, and the sets that have any.
func failedOnly(sets []v1.UpdaterSet) []v1.UpdaterSet {
	out := []v1.UpdaterSet{}
	for _, s := range sets {
		s.Updaters = slices.DeleteFunc(slices.Clone(s.Updaters), func(u v1.Updater) bool { return u.Status != "failed" })
		if len(s.Updaters) > 0 || s.Error != "" {
			out = append(out, s)
		}
	}
	return out
}

type updAcceptCmd struct {
	Names []string `arg:"" name:"name" help:"Updaters, or sets."`
	Wait  bool     `short:"w" help:"Wait until they have run."`
}

func (updAcceptCmd) Help() string {
	return "The feed is fetched again, and what it has then is stored.\n\nExamples:\n  tocsin updaters accept osv/go\n  tocsin updaters accept debian --wait"
}

func (c *updAcceptCmd) Run(e *env) error { return e.runUpdates(c.Names, true, c.Wait) }

type updRunCmd struct {
	Sets []string `arg:"" optional:"" name:"set" help:"Updater sets; all if none is named." predictor:"updater-set"`
	Wait bool     `short:"w" help:"Wait until they have run."`
}

func (updRunCmd) Help() string {
	return "Examples:\n  tocsin updaters run\n  tocsin updaters run osv debian --wait"
}

func (c *updRunCmd) Run(e *env) error {
	sets := c.Sets
	if len(sets) == 0 {
		sets = []string{""}
	}
	return e.runUpdates(sets, false, c.Wait)
}

// runUpdates asks for runs of sets, or accepts what is held back of them.
func (e *env) runUpdates(sets []string, accept, wait bool) error {
	cl, err := e.client()
	if err != nil {
		return err
	}
	jobs := []v1.Job{}
	for _, s := range sets {
		var page v1.Page[v1.Job]
		if err := cl.call(http.MethodPost, "/updates", nil, v1.UpdateRequest{Set: s, Accept: accept}, &page); err != nil {
			return err
		}
		jobs = append(jobs, page.Items...)
	}
	failed := 0
	if wait {
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
