package app

import (
	"context"
	"errors"
	"io"

	"tocsin.dev/tocsin/internal/config"
	"tocsin.dev/tocsin/updater"
)

// Check finds what is wrong with a valid configuration in the eyes of the
// updaters: sets that there are none of, schedules, their settings.
func Check(c config.Config) error {
	_, err := updater.New(updater.Options{Config: UpdaterConfig(c)})
	return err
}

// Migrate brings the configured database up to date, the private cluster's if
// none is configured, and returns when it has.
func (a *App) Migrate(ctx context.Context) (err error) {
	life := newLifecycle(ctx, a.log)
	defer func() { err = errors.Join(err, life.stop()) }()
	_, err = a.database(ctx, life)
	return err
}

// ExportUpdaters runs the configured updaters, only the named sets if any are
// named, and writes their data to w as an airgap archive, compressed as the
// ending of name says. It needs no database.
func (a *App) ExportUpdaters(ctx context.Context, sets []string, name string, w io.Writer) error {
	c := UpdaterConfig(a.config)
	if len(sets) > 0 {
		c.Sets = sets
	}
	transport, err := feedTransport(a.config.Updaters)
	if err != nil {
		return err
	}
	a.notice("fetching the feeds anew, which takes a while")
	archive, err := updater.Compress(w, name)
	if err != nil {
		return err
	}
	err = updater.Export(ctx, archive, updater.Options{Config: c, Transport: transport, Logger: a.log, UserAgent: a.userAgent()})
	return errors.Join(err, archive.Close())
}
