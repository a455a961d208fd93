package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/mattn/go-isatty"

	"tocsin.dev/tocsin/internal/app"
	"tocsin.dev/tocsin/internal/cli"
	"tocsin.dev/tocsin/internal/config"
	"tocsin.dev/tocsin/internal/demo"
	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/internal/telemetry"
	"tocsin.dev/tocsin/internal/terminal"
)

// version is set by the linker; a build without it takes the module's.
var version = ""

// commit is set by the linker where the build has no repository to ask.
var commit = ""

// actions are what the program does besides talking to a server.
func actions() cli.Actions {
	v := buildVersion()
	return cli.Actions{
		Defaults: app.Defaults(),
		Version:  v,
		Check:    app.Check,
		Serve: func(ctx context.Context, c config.Config) error {
			return app.New(c, v, logger(c.Log), notice).Run(ctx)
		},
		Migrate: func(ctx context.Context, c config.Config, w io.Writer) error {
			if err := app.New(c, v, logger(c.Log), notice).Migrate(ctx); err != nil {
				return err
			}
			_, err := fmt.Fprintln(w, "the database is up to date")
			return err
		},
		TakeOver: func(ctx context.Context, c config.Config, dry bool) (cli.ClairTakeover, error) {
			return takeOver(ctx, app.New(c, v, logger(c.Log), notice), dry)
		},
		ExportUpdaters: func(ctx context.Context, c config.Config, sets []string, name string, w io.Writer, progress func(string)) error {
			return app.New(c, v, logger(c.Log), progress).ExportUpdaters(ctx, sets, name, w)
		},
		Demo: func(ctx context.Context, o cli.DemoOptions, out io.Writer, style terminal.Style) error {
			self, err := os.Executable()
			if err != nil {
				return fmt.Errorf("demo: %w", err)
			}
			return demo.Run(ctx, demo.Options{Binary: self, Dir: o.Dir, Keep: o.Keep, Out: out, Style: style})
		},
	}
}

// takeOver takes over a database of Clair's, or says what that would do.
func takeOver(ctx context.Context, a *app.App, dry bool) (cli.ClairTakeover, error) {
	plan, err := a.PlanTakeover(ctx)
	if err != nil {
		return cli.ClairTakeover{}, err
	}
	out := cli.ClairTakeover{Begun: plan.Begun, Images: plan.Images, Notifier: plan.Notifier, Open: plan.Open, Lost: plan.Lost, Feeds: []cli.ClairFeed{}}
	for _, f := range plan.Feeds {
		out.Feeds = append(out.Feeds, cli.ClairFeed{
			Updater: f.Updater, Operations: f.Operations, Told: f.Told, Next: f.Next, Undelivered: f.Undelivered, Basis: f.Basis,
		})
	}
	if dry {
		return out, nil
	}
	state, err := a.TakeOver(ctx)
	if err == nil && state != nil {
		out.Recorded, out.Failed = state.Recorded, state.Failed
	}
	return out, err
}

// notice tells a person in words what happens; the log has the details.
func notice(text string) {
	if isatty.IsTerminal(os.Stderr.Fd()) {
		fmt.Fprintln(os.Stderr, "tocsin:", text)
	}
}

// logger writes to standard error: text for people, JSON for everything else.
func logger(c config.Log) *slog.Logger {
	log, err := telemetry.NewLogger(os.Stderr, c.Level, c.Format)
	if err != nil { // only if the configuration was not checked
		log, _ = telemetry.NewLogger(os.Stderr, "info", "auto")
		log.Warn("log configuration not used", "error", err)
	}
	return log
}

// buildVersion is what the Go toolchain recorded of this build.
func buildVersion() v1.Version {
	v := v1.Version{Version: version, Commit: commit, Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if v.Version == "" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v.Commit = s.Value[:min(12, len(s.Value))]
		}
	}
	for _, d := range info.Deps {
		if d.Path == "github.com/quay/claircore" {
			v.Claircore = d.Version
		}
	}
	return v
}
