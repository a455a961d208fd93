package updater

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"sync"

	"github.com/google/uuid"
	"github.com/quay/claircore/libvuln/driver"
)

// A Result is how one updater's run ended.
type Result string

// The results of an updater. Running is the one of a run that is under way, or
// of one whose process was killed; Gone is that of an updater which its set no
// longer has. Held is that of an update which would take away more of the feed
// than it may, and waits to be accepted.
const (
	Running   Result = "running"
	Unchanged Result = "unchanged"
	Updated   Result = "updated"
	Failed    Result = "failed"
	Held      Result = "held"
	Gone      Result = "gone"
)

// An Outcome is what one updater's run did.
type Outcome struct {
	Result Result
	// Ref is the update operation that was stored, if Result is Updated.
	Ref uuid.UUID
	// Rows is how many rows the updater's data now have: vulnerabilities, or
	// records of an enricher. Offered is how many those have that are held.
	Rows, Offered int64
	// FingerprintChanged tells whether the feed's fingerprint is another.
	FingerprintChanged bool
	// Err is why it failed, if Result is Failed.
	Err error
}

// An observer is told of the steps of a set's run. Its methods may be called
// from several goroutines at once; an error ends the run.
type observer interface {
	discovered(ctx context.Context, updaters []string) error
	started(ctx context.Context, updater string) error
	finished(ctx context.Context, updater string, out Outcome) error
	// accepted tells whether a held update of the updater was let through.
	accepted(ctx context.Context, updater string) (bool, error)
	progress(ctx context.Context, text string)
}

// A runner runs sets. Its gate bounds how many feeds are unpacked, parsed and
// stored at a time in this process, since a parsed feed is held in memory.
type runner struct {
	settings    Settings
	limits      Limits
	network     http.RoundTripper
	userAgent   string
	gate        chan struct{}
	fetches     int
	filter      *regexp.Regexp // of updaters to run; nil: all
	acceptEmpty bool
	maxDrop     float64
	log         *slog.Logger
}

// run discovers the set's updaters and drives each. The error is about the set:
// that it could not be discovered, was given up, or that its steps could not be
// recorded. Failures of single updaters are outcomes, not errors.
func (r *runner) run(ctx context.Context, s Set, to sink, obs observer) error {
	limits := r.limits
	if s.Name == "rhel-vex" {
		limits.Unpacked *= 4
	}
	// Steps are recorded as long as the caller's context lives, also that of
	// a run that is given up.
	caller := ctx
	ctx, cancel := context.WithTimeoutCause(ctx, limits.Set, fmt.Errorf("the set took longer than %v (updaters.limits.set)", limits.Set))
	defer cancel()

	settings, err := r.settings.open(append([]string{s.Name}, s.Aliases...)...)
	if err != nil {
		return err
	}
	t := newTransport(r.network, limits, r.userAgent)
	client := &http.Client{Transport: t}
	if s.adapt != nil {
		client.Transport = s.adapt(settings, t)
	}
	obs.progress(ctx, "discovering")
	updaters, err := r.discover(ctx, s, settings, t, client)
	if err != nil {
		return given(ctx, err)
	}
	names := make([]string, len(updaters))
	for i, u := range updaters {
		names[i] = u.Name()
	}
	if err := obs.discovered(caller, names); err != nil {
		return err
	}

	var (
		wg      sync.WaitGroup
		next    = make(chan driver.Updater)
		errs    = make(chan error, r.fetches)
		counter = &count{total: len(updaters)}
	)
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	for range min(r.fetches, len(updaters)) {
		wg.Go(func() {
			for u := range next {
				d := drive{runner: r, set: s, updater: u, client: client, limits: limits, to: to, tell: func(text string) {
					obs.progress(ctx, fmt.Sprintf("%s: %s (%s)", u.Name(), text, counter))
				}, accepted: func(ctx context.Context) (bool, error) { return obs.accepted(ctx, u.Name()) }}
				if err := d.observed(ctx, caller, obs); err != nil {
					giveUp(err)
					errs <- err
					return
				}
				counter.add()
			}
		})
	}
	func() {
		defer close(next)
		for _, u := range updaters {
			select {
			case next <- u:
			case <-ctx.Done():
				return
			}
		}
	}()
	wg.Wait()
	close(errs)
	if err := <-errs; err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// discover builds the set's factory and asks it for its updaters, sorted by name.
func (r *runner) discover(ctx context.Context, s Set, settings *reader, t *transport, client *http.Client) (updaters []driver.Updater, err error) {
	defer recovered(&err, r.log)
	err = t.discovery(func() error {
		f, err := s.New(ctx)
		if err != nil {
			return err
		}
		if err := settings.configure(ctx, f, client); err != nil {
			return err
		}
		set, err := f.UpdaterSet(ctx)
		updaters = set.Updaters()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("discover the updaters of %s: %w", s.Name, err)
	}
	if len(updaters) == 0 {
		return nil, fmt.Errorf("discover the updaters of %s: the server offers none (is updaters.config.%s right?)", s.Name, s.Name)
	}
	if r.filter != nil {
		updaters = slices.DeleteFunc(updaters, func(u driver.Updater) bool { return !r.filter.MatchString(u.Name()) })
	}
	slices.SortFunc(updaters, func(a, b driver.Updater) int { return cmp.Compare(a.Name(), b.Name()) })
	return updaters, nil
}

// given adds the reason that a context was given up for to an error that hides it.
func given(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

// A count is how many of a set's updaters are done.
type count struct {
	mu          sync.Mutex
	done, total int
}

func (c *count) add() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done++
}

func (c *count) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprintf("%d of %d done", c.done, c.total)
}
