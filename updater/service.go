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

// A Config says which sets run, when, and how. Its zero value runs every set
// every six hours.
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
	// process; 1 if zero. Each is held in memory meanwhile.
	Concurrency int
	// StaleAfter is how long an updater may fail before its data are announced
	// to be stale; 72 h if zero.
	StaleAfter time.Duration
	// SetConcurrency is how many sets run at a time in this process; 4 if zero.
	SetConcurrency int
	// Fetches is how many updaters of one set fetch at a time; 4 if zero.
	Fetches int
	// AcceptEmpty believes an update to no rows at all.
	AcceptEmpty bool
	// MaxDrop is how much of a feed's rows an update may take away, of 1, before
	// it is held back until somebody accepts it; DefaultMaxDrop if zero, and 1
	// holds nothing back.
	MaxDrop float64
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

// An Option changes a [Service].
type Option func(*Service)

// WithLogger sets the logger; nothing is logged without it.
func WithLogger(log *slog.Logger) Option { return func(s *Service) { s.log = log } }

// WithUpdateLock sets the key of the advisory lock that is held shared while an
// update is stored. It has to be the one that garbage collection takes
// exclusively.
func WithUpdateLock(key int64) Option { return func(s *Service) { s.lock = key } }

// WithTransport sets what carries the requests, beneath the limits; a clone of
// [http.DefaultTransport] without it.
func WithTransport(t http.RoundTripper) Option { return func(s *Service) { s.runner.network = t } }

// WithUserAgent sets the User-Agent of requests.
func WithUserAgent(ua string) Option { return func(s *Service) { s.runner.userAgent = ua } }

// WithSets adds sets to those that Tocsin knows, or replaces ones of the same name.
func WithSets(sets ...Set) Option {
	return func(s *Service) {
		for _, set := range sets {
			s.known = slices.DeleteFunc(s.known, func(k Set) bool { return k.Name == set.Name })
			s.known = append(s.known, set)
		}
		slices.SortFunc(s.known, func(a, b Set) int { return cmp.Compare(a.Name, b.Name) })
	}
}

// WithRegisterer sets where this package's metrics go; nowhere without it.
func WithRegisterer(r prometheus.Registerer) Option { return func(s *Service) { s.registerer = r } }

// WithClock sets the clock that schedules are compared with.
func WithClock(now func() time.Time) Option { return func(s *Service) { s.now = now } }

// Dependencies are what a [Service] works with. All are needed but for Export.
type Dependencies struct {
	Queue     Queue
	Intake    Intake
	Waker     Waker
	Announcer Announcer
}

// A Service runs updater sets. Its methods may be called concurrently.
type Service struct {
	pool      *pgxpool.Pool
	queue     Queue
	intake    Intake
	waker     Waker
	log       *slog.Logger
	now       func() time.Time
	lock      int64
	cfg       Config
	known     []Set // all there are
	sets      []Set // those enabled
	schedules map[string]cron.Schedule
	runner    *runner
	record    *record
	database  *database

	registerer prometheus.Registerer
	metrics    *metrics
}

// New checks the configuration and returns a service that has not started
// anything. Errors name the key of the configuration that is wrong.
func New(pool *pgxpool.Pool, deps *Dependencies, cfg Config, opts ...Option) (*Service, error) {
	s := &Service{
		pool: pool, cfg: cfg, now: time.Now, log: slog.New(slog.DiscardHandler), known: Sets(),
		runner: &runner{userAgent: "tocsin"},
	}
	for _, o := range opts {
		o(s)
	}
	if s.runner.network == nil {
		s.runner.network = http.DefaultTransport.(*http.Transport).Clone()
	}
	var err error
	if s.sets, err = choose(s.known, cfg.Sets); err != nil {
		return nil, fmt.Errorf("updaters.sets: %w", err)
	}
	if s.runner.filter, err = regexp.Compile(cfg.Filter); err != nil {
		return nil, fmt.Errorf("updaters.filter: %w", err)
	}
	if s.schedules, err = parseSchedules(cfg.Schedules, s.sets, s.known); err != nil {
		return nil, err
	}
	if err := cfg.Settings.validate(context.Background(), s.known); err != nil {
		return nil, err
	}
	s.runner.settings = cfg.Settings
	s.runner.limits = cfg.Limits.withDefaults()
	s.runner.gate = make(chan struct{}, max(cfg.Concurrency, 1))
	s.runner.fetches = orDefault(cfg.Fetches, 4)
	s.runner.acceptEmpty = cfg.AcceptEmpty
	s.runner.maxDrop = cmp.Or(cfg.MaxDrop, DefaultMaxDrop)
	s.runner.log = s.log
	s.metrics = newMetrics(s.registerer)
	if deps != nil {
		s.queue, s.intake, s.waker = deps.Queue, deps.Intake, deps.Waker
		s.record = &record{pool: pool, announcer: deps.Announcer, staleAfter: cmp.Or(cfg.StaleAfter, 72*time.Hour)}
		s.database = &database{pool: pool, lock: s.lock}
	}
	return s, nil
}

func orDefault(n, fallback int) int {
	if n <= 0 {
		return fallback
	}
	return n
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
			return s.queue.Run(ctx, Kind, orDefault(s.cfg.SetConcurrency, 4), s.work)
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
