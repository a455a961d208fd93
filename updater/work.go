package updater

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"tocsin.dev/tocsin/internal/bus"
	"tocsin.dev/tocsin/internal/jobs"
)

// maxRequest is the most bytes that a request over NATS may have.
const maxRequest = 4 << 10

// request takes one message of the intake: {"set":"osv"}, or {} for all. What
// cannot be understood is kept as a failed job and never comes again.
func (s *Service) request(ctx context.Context, m bus.Message) error {
	set, err := parseRequest(m.Data)
	if err == nil {
		var names []string
		if set != "" {
			names = []string{set}
		}
		if _, err = s.RunNow(ctx, names); err == nil {
			return nil
		}
		if !errors.Is(err, ErrUnknownSet) && !errors.Is(err, ErrDisabledSet) {
			return err
		}
	}
	if _, err := s.queue.Reject(ctx, Kind, m.Data, err.Error()); err != nil {
		return fmt.Errorf("keep a message that cannot be understood: %w", err)
	}
	return fmt.Errorf("%w: %w", bus.ErrTerminate, err)
}

func parseRequest(data []byte) (set string, err error) {
	if len(data) > maxRequest {
		return "", fmt.Errorf("the message has %d bytes, at most %d taken", len(data), maxRequest)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return "", nil
	}
	var body struct {
		Set string `json:"set"`
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&body); err != nil {
		return "", fmt.Errorf(`expected an object like {"set":"osv"}, or {} for all%s`, found(err))
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return "", errors.New(`expected one object like {"set":"osv"}, or {} for all; there is more after it`)
	}
	return body.Set, nil
}

// found describes, in terms of JSON, what came instead of what was expected.
func found(err error) string {
	t, ok := errors.AsType[*json.UnmarshalTypeError](err)
	switch {
	case !ok:
		return ": " + strings.TrimPrefix(err.Error(), "json: ")
	case t.Field != "":
		return fmt.Sprintf("; %q is of JSON type %s", t.Field, t.Value)
	}
	return ", got JSON of type " + t.Value
}

// work runs the set of one job. Failures of the feed are final for the job: the
// schedule tries again, and the rows say what happened. An error of the
// database is the job's to repeat.
func (s *Service) work(ctx context.Context, job jobs.Job) error {
	var req request
	if err := json.Unmarshal(job.Payload, &req); err != nil {
		return jobs.Permanent(fmt.Errorf("payload: %w", err))
	}
	// Also a set that this process would not have started: another replica,
	// whose configuration is newer, did.
	chosen, err := choose(s.known, []string{job.Key})
	if err != nil {
		return jobs.Permanent(err)
	}
	set := chosen[0]
	mine, err := s.record.claim(ctx, set.Name, job.ID, req.Manual, req.After)
	if err != nil {
		return err
	}
	if !mine {
		s.log.InfoContext(ctx, "updater set ran meanwhile", "set", set.Name)
		return nil
	}
	mended, left, err := s.database.settle(ctx)
	if err != nil {
		return err
	}
	if left {
		s.log.InfoContext(ctx, "finished what an interrupted update left; nothing was lost")
	}
	if mended {
		s.waker.Wake(bus.WakeMatcher)
	}

	obs := &recorder{service: s, set: set.Name, job: job.ID}
	start := time.Now()
	err = s.runner.run(ctx, set, s.database, obs)
	s.metrics.took(set.Name, time.Since(start))
	if ctx.Err() != nil {
		// The process stops or lost the job: whoever runs it next records it.
		return context.Cause(ctx)
	}
	if obs.broken != nil {
		return obs.broken
	}
	out := Outcome{Result: Unchanged, Rows: obs.rows}
	if obs.updated > 0 {
		out.Result = Updated
	}
	if err != nil {
		out = Outcome{Result: Failed, Err: err}
	}
	if err := s.record.finish(ctx, set.Name, "", job.ID, out); err != nil {
		return err
	}
	jobs.Result(ctx, obs.summary())
	if err == nil && len(obs.failures) > 0 {
		err = fmt.Errorf("%d of %d updaters failed: %w", len(obs.failures), obs.total, errors.Join(obs.failures...))
	}
	if err != nil {
		return jobs.Permanent(err)
	}
	return nil
}

// A recorder is the observer that writes rows, wakes the matcher and tells the
// job's progress.
type recorder struct {
	service *Service
	set     string
	job     uuid.UUID

	mu       sync.Mutex
	total    int
	ended    int
	updated  int
	held     int
	rows     int64
	failures []error
	broken   error // a row could not be written
}

func (o *recorder) discovered(ctx context.Context, updaters []string) error {
	o.total = len(updaters)
	return o.keep(o.service.record.present(ctx, o.set, updaters))
}

func (o *recorder) started(ctx context.Context, updater string) error {
	return o.keep(o.service.record.start(ctx, o.set, updater, o.job))
}

func (o *recorder) finished(ctx context.Context, updater string, out Outcome) error {
	log := o.service.log.With("set", o.set, "updater", updater)
	o.mu.Lock()
	o.ended++
	o.rows += out.Rows
	switch out.Result {
	case Updated:
		o.updated++
		log.InfoContext(ctx, "vulnerability data updated", "ref", out.Ref, "rows", out.Rows)
	case Held:
		o.held++
		log.WarnContext(ctx, "the feed has shrunk so far that the update is held back; tocsin updaters accept lets it through",
			"rows", out.Offered, "before", out.Rows)
	case Failed:
		o.failures = append(o.failures, fmt.Errorf("%s: %w", updater, out.Err))
		log.WarnContext(ctx, "updater failed; its previous data stay", "error", out.Err)
	default:
		log.InfoContext(ctx, "vulnerability data unchanged")
	}
	o.mu.Unlock()
	o.service.metrics.ended(o.set, updater, out)
	err := o.service.record.finish(ctx, o.set, updater, o.job, out)
	if out.Result == Updated {
		o.service.waker.Wake(bus.WakeMatcher)
	}
	return o.keep(err)
}

// summary says what came of the run, for people.
func (o *recorder) summary() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	held := ""
	if o.held > 0 {
		held = fmt.Sprintf(", %d held back", o.held)
	}
	return fmt.Sprintf("%d updaters: %d updated, %d unchanged, %d failed%s; %s rows",
		o.total, o.updated, o.ended-o.updated-o.held-len(o.failures), len(o.failures), held, thousands(int(o.rows)))
}

func (o *recorder) keep(err error) error {
	if err != nil {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.broken = err
	}
	return err
}

func (o *recorder) accepted(ctx context.Context, updater string) (bool, error) {
	return o.service.record.accepted(ctx, o.set, updater)
}

func (o *recorder) progress(ctx context.Context, text string) {
	jobs.Progress(ctx, text)
}
