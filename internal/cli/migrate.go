package cli

import (
	"fmt"
	"time"

	"tocsin.dev/tocsin/internal/terminal"
)

type migrateCmd struct {
	Up        migrateUpCmd        `cmd:"" default:"withargs" help:"Bring the database up to date (this is what migrate does by itself)."`
	FromClair migrateFromClairCmd `cmd:"" help:"Take over a database that Clair has filled."`
}

type migrateUpCmd struct{ configFlags }

func (migrateUpCmd) Help() string {
	return "The server does this by itself when it starts; this is for doing it beforehand. Running it twice does nothing."
}

func (c *migrateUpCmd) Run(e *env) error {
	cfg, err := c.valid(e)
	if err != nil {
		return err
	}
	return e.actions.Migrate(e.ctx, cfg, e.out)
}

// ClairTakeover is what a database of Clair's holds for Tocsin.
type ClairTakeover struct {
	Begun    bool        `json:"begun"`
	Images   int         `json:"images"`
	Recorded int         `json:"recorded"`
	Failed   int         `json:"failed"`
	Notifier bool        `json:"notifier"`
	Open     int         `json:"open"`
	Lost     int         `json:"lost"`
	Feeds    []ClairFeed `json:"feeds"`
}

// ClairFeed is how far Clair's notifier came with one updater.
type ClairFeed struct {
	Updater     string    `json:"updater"`
	Operations  int       `json:"operations"`
	Told        time.Time `json:"told,omitzero"`
	Next        int       `json:"next"`
	Undelivered int       `json:"undelivered"`
	Basis       string    `json:"basis"`
}

type migrateFromClairCmd struct {
	configFlags
	DryRun bool `help:"Say what would happen, and change nothing."`
}

func (migrateFromClairCmd) Help() string {
	return `Index reports and vulnerabilities are claircore's in both programs and stay as they are. What is added: an inventory of
every image that Clair has indexed, so that updates are told of it, and a cursor for every feed, where Clair's notifier
has come to, so that nothing is told twice or missed. Stop Clair first. The server does all of this by itself at its
first start on the database, in the background; this is for doing it beforehand, with no server running.

Notifications that Clair made stay readable at /notifier/api/v1/notification/{id}.

Examples:
  tocsin migrate from-clair --dry-run --database-url postgres://clair@db/clair
  tocsin migrate from-clair --config tocsin.yaml`
}

func (c *migrateFromClairCmd) Run(e *env) error {
	cfg, err := c.valid(e)
	if err != nil {
		return err
	}
	if cfg.Database.URL.Reveal() == "" {
		return usage("which database? Give Clair's with --database-url or database.url")
	}
	plan, err := e.actions.TakeOver(e.ctx, cfg, c.DryRun)
	if err != nil {
		return err
	}
	return e.print(plan, func() error { return e.takeover(plan, c.DryRun) })
}

// takeover says in words what was, or would be, taken over.
func (e *env) takeover(p ClairTakeover, dry bool) error {
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	switch {
	case dry && p.Begun:
		add("Tocsin works on this database already: its feeds keep their cursors.")
		add("%d images that Clair has indexed have no inventory yet; a running server records them.", p.Images)
	case dry:
		add("%d images that Clair has indexed will get an inventory. They have no names until somebody hands them in again.", p.Images)
	default:
		add("%d images that Clair has indexed are recorded, %d can't be (the log says why).", p.Recorded, p.Failed)
	}
	if !p.Notifier && !p.Begun {
		add("Clair's notifier has no tables here: nothing of the past is told. If it has a database of its own, copy its tables here first.")
	}
	if p.Open > 0 {
		add("%d notifications that Clair has delivered and no client has deleted stay readable by their ids.", p.Open)
	}
	if p.Lost > 0 {
		add("%d notifications that Clair has never delivered are of updates that it has since deleted: they can't be told.", p.Lost)
	}
	for _, l := range lines {
		if err := e.printf("%s\n", l); err != nil {
			return err
		}
	}
	if len(p.Feeds) == 0 {
		return nil
	}
	if err := e.printf("\n"); err != nil {
		return err
	}
	t := terminal.NewTable("FEED", "UPDATES", "TOLD UNTIL", "TO TELL", "NOT DELIVERED", "KNOWN BY")
	for _, f := range p.Feeds {
		told := "-"
		if !f.Told.IsZero() {
			told = f.Told.UTC().Format(time.DateTime)
		}
		t.Row(f.Updater, f.Operations, told, f.Next, f.Undelivered, f.Basis)
	}
	return e.table(t, "")
}
