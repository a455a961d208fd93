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
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/robfig/cron/v3"

	"tocsin.dev/tocsin/internal/bus"
	"tocsin.dev/tocsin/internal/jobs"
)

// Kind is the kind of the jobs that run updater sets; their key is the set.
const Kind = "update"

// tick bounds how long a replica trusts the due times that it has computed,
// since other replicas and people start runs too.
const tick = 30 * time.Second

// A Config says which sets run, when, and how. What is zero in it is as in
// [Defaults], which runs every set every six hours.
type Config struct {
	// Sets are the names of the sets to run; empty means all.
	Sets []string
	// Filter is a regular expression of the updaters to run, by name; empty runs
	// all of the sets.
	Filter string
	// Settings are claircore's own keys, by set or by updater.
	Settings Settings
	// Schedules are cron specifications by set, and of "default": "@every 6h",
	// "@daily", five cron fields in UTC, or "off".
	Schedules map[string]string
	Limits    Limits
	// Concurrency is how many feeds are parsed and stored at a time in this
	// process. Each is held in memory meanwhile.
	Concurrency int
	// StaleAfter is how long an updater may fail before its data are announced
	// to be stale.
	StaleAfter time.Duration
	// SetConcurrency is how many sets run at a time in this process.
	SetConcurrency int
	// Fetches is how many updaters of one set fetch at a time.
	Fetches int
	// AcceptEmpty believes an update to no rows at all.
	AcceptEmpty bool
	// MaxDrop is how much of a feed's rows an update may take away, of 1, before
	// it is held back until somebody accepts it; 1 holds nothing back.
	MaxDrop float64
}

// Defaults are what a service does where its configuration leaves something open.
func Defaults() Config {
	return Config{
		Limits: Limits{
			Response: 1 << 30, Unpacked: 16 << 30, Entry: 64 << 20, Requests: 50_000, Probes: 1_000,
			Stall: time.Minute, Updater: time.Hour, Set: 4 * time.Hour,
		},
		Concurrency: 1, StaleAfter: 72 * time.Hour, SetConcurrency: 4, Fetches: 4, MaxDrop: 0.5,
	}
}

func (c Config) withDefaults() Config {
	d := Defaults()
	c.Limits = c.Limits.withDefaults(d.Limits)
	c.Concurrency = cmp.Or(max(c.Concurrency, 0), d.Concurrency)
	c.StaleAfter = cmp.Or(c.StaleAfter, d.StaleAfter)
	c.SetConcurrency = cmp.Or(max(c.SetConcurrency, 0), d.SetConcurrency)
	c.Fetches = cmp.Or(max(c.Fetches, 0), d.Fetches)
	c.MaxDrop = cmp.Or(c.MaxDrop, d.MaxDrop)
	return c
}

// Queue is the part of the job store that this package needs.
type Queue interface {
	// Submit returns the key's active job, or a new one.
	Submit(ctx context.Context, kind, key string, payload any) (jobs.Job, bool, error)
	// Reject keeps a message that cannot be understood as a failed job.
	Reject(ctx context.Context, kind string, payload []byte, reason string) (jobs.Job, error)
	// Run runs jobs until ctx ends.
	Run(ctx context.Context, kind string, concurrency int, do func(context.Context, jobs.Job) error) error
}

// Intake hands over what others publish.
type Intake interface {
	Consume(ctx context.Context, subject string, concurrency int, handle func(context.Context, bus.Message) error) error
}

// Waker hints that there is something to do. It may lose the hint.
type Waker interface {
	Wake(subject string)
}

// Options are a service's configuration and what it works with.
type Options struct {
	Config
	// Pool is the database, with Tocsin's tables and claircore's. Without it the
	// configuration is checked and sets can be exported; Queue, Intake, Waker and
	// Announcer are not used then. Otherwise all of them are needed.
	Pool      *pgxpool.Pool
	Queue     Queue
	Intake    Intake
	Waker     Waker
	Announcer Announcer
	// Dependents counts the images that feeds speak of, by the updaters' names;
	// known is false for feeds that were never loaded. A stale feed on which no
	// image depends is not announced. Optional: nil announces all.
	Dependents func(ctx context.Context, updaters ...string) (images int, known bool, err error)
	// UpdateLock is the key of the advisory lock that is held shared while an
	// update is stored. It has to be the one that garbage collection takes
	// exclusively.
	UpdateLock int64
	// Known are the sets there are; nil for [Sets].
	Known []Set
	// Transport carries the requests, beneath the limits; nil for a clone of
	// [http.DefaultTransport].
	Transport http.RoundTripper
	// UserAgent is that of the requests; "tocsin" if empty.
	UserAgent string

	Registerer prometheus.Registerer // gets the metrics; nil for none
	Logger     *slog.Logger          // nil for none
	Clock      func() time.Time      // what schedules are compared with; nil for time.Now
}

// A Service runs updater sets. Its methods may be called concurrently.
type Service struct {
	pool      *pgxpool.Pool
	queue     Queue
	intake    Intake
	waker     Waker
	log       *slog.Logger
	now       func() time.Time
	cfg       Config
	known     []Set // all there are
	sets      []Set // those enabled
	schedules map[string]cron.Schedule
	runner    *runner
	record    *record
	database  *database
	metrics   *metrics
}

// New checks the configuration and returns a service that has not started
// anything. Errors name the key of the configuration that is wrong.
func New(o Options) (*Service, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Known == nil {
		o.Known = Sets()
	}
	if o.Transport == nil {
		o.Transport = http.DefaultTransport.(*http.Transport).Clone()
	}
	o.Config = o.Config.withDefaults()
	s := &Service{
		pool: o.Pool, queue: o.Queue, intake: o.Intake, waker: o.Waker, log: o.Logger, now: o.Clock, cfg: o.Config, known: o.Known,
		metrics: newMetrics(o.Registerer),
		runner: &runner{
			settings: o.Settings, limits: o.Limits, gate: make(chan struct{}, o.Concurrency), fetches: o.Fetches,
			acceptEmpty: o.AcceptEmpty, maxDrop: o.MaxDrop, network: o.Transport, userAgent: cmp.Or(o.UserAgent, "tocsin"), log: o.Logger,
		},
	}
	var err error
	if s.sets, err = choose(s.known, o.Sets); err != nil {
		return nil, fmt.Errorf("updaters.sets: %w", err)
	}
	if s.runner.filter, err = regexp.Compile(o.Filter); err != nil {
		return nil, fmt.Errorf("updaters.filter: %w", err)
	}
	if s.schedules, err = parseSchedules(o.Schedules, s.sets, s.known); err != nil {
		return nil, err
	}
	if err := o.Settings.validate(context.Background(), s.known); err != nil {
		return nil, err
	}
	if o.Pool != nil {
		s.record = &record{pool: o.Pool, announcer: o.Announcer, staleAfter: o.StaleAfter, dependents: o.Dependents, log: o.Logger}
		s.database = &database{pool: o.Pool, lock: o.UpdateLock}
	}
	return s, nil
}

// spec returns the set's schedule as it was written.
func (s *Service) spec(set string) string {
	for name, spec := range s.cfg.Schedules {
		if i := slices.IndexFunc(s.known, func(k Set) bool { return k.called(name) }); i >= 0 && s.known[i].Name == set {
			return spec
		}
	}
	if spec, ok := s.cfg.Schedules["default"]; ok {
		return spec
	}
	return DefaultSchedule
}

// Run ticks, takes requests and runs sets until ctx ends and all of that has
// ended. Any number of replicas may do so at once.
func (s *Service) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	parts := []func(context.Context) error{
		s.schedule,
		func(ctx context.Context) error { return s.intake.Consume(ctx, bus.SubjectUpdates, 1, s.request) },
		func(ctx context.Context) error {
			return s.queue.Run(ctx, Kind, s.cfg.SetConcurrency, s.work)
		},
	}
	done := make(chan error, len(parts))
	for _, part := range parts {
		go func() { done <- part(ctx) }()
	}
	var errs []error
	for range parts {
		err := <-done
		if err != nil && ctx.Err() == nil {
			errs = append(errs, err)
			cancel(err)
		}
	}
	return errors.Join(errs...)
}

// A request is the payload of an update job. After is the start of the set's
// last run that a scheduled job was counted from, zero for "never".
type request struct {
	Manual bool      `json:"manual,omitempty"`
	After  time.Time `json:"after,omitzero"`
}

// RunNow submits a job for every named set, or for all enabled ones, and returns
// them; a set that has a job already keeps it. A set that is known but not
// enabled is [ErrDisabledSet].
func (s *Service) RunNow(ctx context.Context, sets []string) ([]jobs.Job, error) {
	if _, err := choose(s.known, sets); err != nil {
		return nil, err
	}
	chosen, err := choose(s.sets, sets)
	if err != nil {
		return nil, fmt.Errorf("%w: one of %v (updaters.sets enables %v)", ErrDisabledSet, sets, setNames(s.sets))
	}
	out := make([]jobs.Job, 0, len(chosen))
	for _, set := range chosen {
		job, _, err := s.queue.Submit(ctx, Kind, set.Name, request{Manual: true})
		if err != nil {
			return out, fmt.Errorf("submit the update of %s: %w", set.Name, err)
		}
		out = append(out, job)
	}
	return out, nil
}

// schedule submits a job for every set that is due, until ctx ends.
func (s *Service) schedule(ctx context.Context) error {
	for {
		wait := s.submitDue(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// submitDue submits what is due now and returns how long to wait until it is
// worth looking again.
func (s *Service) submitDue(ctx context.Context) time.Duration {
	last, err := s.record.last(ctx)
	if err != nil {
		if ctx.Err() == nil {
			s.log.ErrorContext(ctx, "cannot read when updater sets last ran", "error", err)
		}
		return tick
	}
	now, wait := s.now(), tick
	for _, set := range s.sets {
		l := last[set.Name]
		due, ok := next(set.Name, s.schedules[set.Name], l)
		if !ok {
			continue
		}
		if until := due.Sub(now); until > 0 {
			wait = min(wait, until)
			continue
		}
		// A set that is due and running keeps its job; look again soon.
		wait = min(wait, time.Second)
		if _, fresh, err := s.queue.Submit(ctx, Kind, set.Name, request{After: l.started}); err != nil {
			if ctx.Err() == nil {
				s.log.ErrorContext(ctx, "cannot submit an update", "set", set.Name, "error", err)
			}
		} else if fresh {
			s.log.InfoContext(ctx, "updater set is due", "set", set.Name)
		}
	}
	return wait
}
