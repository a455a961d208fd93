package updater

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"

	"github.com/dustin/go-humanize"
	"github.com/quay/claircore"
	"github.com/quay/claircore/libvuln/driver"
)

// A drive takes one updater through fetching, checking, parsing and storing.
type drive struct {
	*runner
	set     Set
	updater driver.Updater
	client  *http.Client
	limits  Limits
	to      sink
	tell    func(text string)
	// accepted tells whether a held update was let through.
	accepted func(ctx context.Context) (bool, error)
}

// observed drives the updater and tells the observer of its start and its end.
// An end because the whole run was given up is not the updater's failure: its
// row stays "running" for whoever records the end of the run.
func (d *drive) observed(ctx, caller context.Context, obs observer) error {
	name := d.updater.Name()
	if err := obs.started(caller, name); err != nil {
		return err
	}
	limited, cancel := context.WithTimeoutCause(ctx, d.limits.Updater, fmt.Errorf("the updater took longer than %v (updaters.limits.updater)", d.limits.Updater))
	defer cancel()
	out, err := d.update(limited)
	if ctx.Err() != nil && err != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		out = Outcome{Result: Failed, FingerprintChanged: out.FingerprintChanged, Err: given(limited, err)}
	}
	return obs.finished(caller, name, out)
}

func (d *drive) update(ctx context.Context) (out Outcome, err error) {
	defer recovered(&err, d.log)
	name := d.updater.Name()
	names := []string{name}
	if d.set.called(name) {
		names = append(append(names, d.set.Name), d.set.Aliases...)
	}
	settings, err := d.settings.open(names...)
	if err != nil {
		return out, err
	}
	if err := settings.configure(ctx, d.updater, d.client); err != nil {
		return out, err
	}
	if !d.set.called(name) {
		// An entry that the updater shares with its set was checked at start.
		if err := settings.check(); err != nil {
			return out, err
		}
	}

	enricher, enriches := d.updater.(driver.EnrichmentUpdater)
	kind, fetch := driver.VulnerabilityKind, d.updater.Fetch
	if enriches {
		kind, fetch = driver.EnrichmentKind, enricher.FetchEnrichment
	}
	previous, rows, err := d.to.previous(ctx, kind, name)
	if err != nil {
		return out, err
	}
	unchanged := Outcome{Result: Unchanged, Rows: rows}

	d.tell("fetching")
	contents, fingerprint, err := fetch(ctx, previous)
	if contents != nil {
		defer contents.Close()
	}
	switch {
	case errors.Is(err, driver.Unchanged):
		return unchanged, nil
	case err != nil:
		return out, fmt.Errorf("fetch: %w", err)
	case contents == nil:
		// This is how the EPSS enricher reports that nothing is new.
		return unchanged, nil
	}
	out.FingerprintChanged = fingerprint != previous

	select {
	case d.gate <- struct{}{}:
		defer func() { <-d.gate }()
	case <-ctx.Done():
		return out, context.Cause(ctx)
	}
	d.tell("parsing")
	if err := inspect(contents, d.limits); err != nil {
		return out, fmt.Errorf("check: %w", err)
	}
	if enriches {
		out, err = d.enrich(ctx, enricher, contents, fingerprint, rows, out)
	} else {
		out, err = d.vulnerabilities(ctx, contents, fingerprint, rows, out)
	}
	if err != nil || out.Result == Unchanged || out.Result == Held {
		out.Rows = rows
		return out, err
	}
	if _, out.Rows, err = d.to.previous(ctx, kind, name); err != nil {
		return out, err
	}
	out.Result = Updated
	return out, nil
}

func (d *drive) vulnerabilities(ctx context.Context, contents io.ReadCloser, fp driver.Fingerprint, rows int64, out Outcome) (Outcome, error) {
	var (
		vulns   []*claircore.Vulnerability
		deleted []string
		err     error
		name    = d.updater.Name()
	)
	delta, isDelta := d.updater.(driver.DeltaUpdater)
	if isDelta {
		vulns, deleted, err = delta.DeltaParse(ctx, contents)
	} else {
		vulns, err = d.updater.Parse(ctx, contents)
	}
	if err != nil {
		return out, fmt.Errorf("parse: %w", err)
	}
	for _, v := range vulns {
		identify(v)
	}
	if isDelta && len(vulns) == 0 && len(deleted) == 0 && rows > 0 {
		// The Red Hat updater has a new fingerprint whenever it is asked.
		// Storing would link every row of the last operation to a new one.
		out.Result = Unchanged
		return out, nil
	}
	if !isDelta {
		if err := d.plausible(len(vulns), rows); err != nil {
			return out, err
		}
	}
	left := len(vulns)
	if isDelta {
		left = int(max(0, rows-int64(len(deleted))))
	}
	if out, held, err := d.held(ctx, left, rows, out); held || err != nil {
		return out, err
	}
	d.tell(fmt.Sprintf("storing %s vulnerabilities", thousands(len(vulns))))
	if isDelta {
		out.Ref, err = d.to.delta(ctx, name, fp, vulns, deleted)
	} else {
		out.Ref, err = d.to.vulnerabilities(ctx, name, fp, vulns)
	}
	if err != nil {
		return out, fmt.Errorf("store: %w", err)
	}
	return out, nil
}

func (d *drive) enrich(ctx context.Context, e driver.EnrichmentUpdater, contents io.ReadCloser, fp driver.Fingerprint, rows int64, out Outcome) (Outcome, error) {
	records, err := e.ParseEnrichment(ctx, contents)
	if err != nil {
		return out, fmt.Errorf("parse: %w", err)
	}
	if err := d.plausible(len(records), rows); err != nil {
		return out, err
	}
	if out, held, err := d.held(ctx, len(records), rows, out); held || err != nil {
		return out, err
	}
	d.tell(fmt.Sprintf("storing %s records", thousands(len(records))))
	if out.Ref, err = d.to.enrichments(ctx, e.Name(), fp, records); err != nil {
		return out, fmt.Errorf("store: %w", err)
	}
	return out, nil
}

// plausible refuses an update that would take away all of what was much.
func (d *drive) plausible(now int, before int64) error {
	if now == 0 && before >= emptyAfter && !d.acceptEmpty {
		return fmt.Errorf("%w: it had %s rows, which are kept (updaters.accept_empty takes such an update)", ErrSuddenlyEmpty, thousands(int(before)))
	}
	return nil
}

// recovered turns a panic of claircore's into an error: no feed may end the
// process.
func recovered(err *error, log *slog.Logger) {
	if p := recover(); p != nil {
		log.Error("an updater panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		*err = fmt.Errorf("the updater panicked: %v", p)
	}
}

// thousands writes a count for people: 12,345.
func thousands(n int) string { return humanize.Comma(int64(n)) }
