package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"sync"
	"time"

	"tocsin.dev/tocsin/internal/text"
)

// checkTimeout bounds one look at what readiness depends on.
const checkTimeout = 4 * time.Second

// Health knows whether this process can do its work. Its methods may be called
// concurrently.
type Health struct {
	mu     sync.Mutex
	phase  phase
	step   string // what it does while it starts
	checks map[string]func(context.Context) error
	notes  map[string]func() string
}

type phase int

const (
	starting phase = iota
	serving
	stopping
)

func (p phase) String() string { return [...]string{"starting", "ready", "stopping"}[p] }

// NewHealth returns the health of a process that starts.
func NewHealth() *Health {
	return &Health{checks: map[string]func(context.Context) error{}, notes: map[string]func() string{}}
}

// Check adds something that readiness depends on, such as the database. The
// check is called for every look at readiness, with a deadline.
func (h *Health) Check(name string, check func(context.Context) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checks[name] = check
}

// Note adds something that somebody has to look at although the process can do
// its work: /readyz says it beside the checks. note must not block; it returns ""
// while there is nothing to say.
func (h *Health) Note(name string, note func() string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.notes[name] = note
}

// Step says what a process that starts is doing, or waiting for.
func (h *Health) Step(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.step = what
}

// Ready says that everything has started.
func (h *Health) Ready() { h.enter(serving) }

// Stopping says that the process is about to stop: it is not ready from now on.
func (h *Health) Stopping() { h.enter(stopping) }

func (h *Health) enter(p phase) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.phase = max(h.phase, p) // a process that stops does not become ready
}

// status is what /readyz answers.
type status struct {
	Status string            `json:"status"`
	Step   string            `json:"step,omitempty"` // of a process that starts
	Checks map[string]string `json:"checks,omitempty"`
	Notes  map[string]string `json:"notes,omitempty"`
}

// look asks every check at once.
func (h *Health) look(ctx context.Context) (status, bool) {
	h.mu.Lock()
	p, step := h.phase, h.step
	names := make([]string, 0, len(h.checks))
	checks := make([]func(context.Context) error, 0, len(h.checks))
	for n, c := range h.checks {
		names, checks = append(names, n), append(checks, c)
	}
	notes := maps.Clone(h.notes)
	h.mu.Unlock()

	s := status{Status: p.String(), Checks: map[string]string{}, Notes: map[string]string{}}
	if p == starting {
		s.Step = step
	}
	if p != serving {
		return s, false
	}
	for name, note := range notes {
		if said := note(); said != "" {
			s.Notes[name] = text.Redact(said)
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, checkTimeout, errors.New("no answer in time"))
	defer cancel()
	errs := make([]error, len(checks))
	var wg sync.WaitGroup
	for i, check := range checks {
		wg.Go(func() { errs[i] = check(ctx) })
	}
	wg.Wait()
	ok := true
	for i, err := range errs {
		s.Checks[names[i]] = "ok"
		if err != nil {
			s.Checks[names[i]] = text.Redact(err.Error())
			ok = false
		}
	}
	if !ok {
		s.Status = "not ready"
	}
	return s, ok
}

// ServeHTTP answers /readyz: 200 if the process is ready, else 503, and why.
func (h *Health) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s, ok := h.look(r.Context())
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if !ok {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	// An error means that nobody listens any more.
	_ = json.NewEncoder(w).Encode(s)
}
