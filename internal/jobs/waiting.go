package jobs

import (
	"context"
	"fmt"
	"time"

	"tocsin.dev/tocsin/internal/bus"
)

// waitingTimeout bounds how long WaitingFor asks NATS.
const waitingTimeout = 2 * time.Second

// WaitingFor says, for people, what a queued job is waiting for: its next attempt,
// NATS, a process that runs its kind, or its turn. It is empty for other jobs.
func (s *Store) WaitingFor(ctx context.Context, j Job) string {
	if j.State != Queued {
		return ""
	}
	if wait := time.Until(j.NextRunAt); wait > 0 && j.Attempts > 0 {
		return fmt.Sprintf("attempt %d in %s, since the one before failed", j.Attempts+1, max(wait, time.Second).Round(time.Second))
	}
	ctx, cancel := context.WithTimeout(ctx, waitingTimeout)
	defer cancel()
	if !s.bus.Connected() {
		return "NATS, to which the server has no connection"
	}
	listening, handling, waiting, err := s.bus.Listeners(ctx, bus.SubjectJobs+j.Kind)
	switch {
	case err != nil:
		return "NATS, which does not hand it over: " + clean(err.Error(), maxReason)
	case listening == 0 && handling == 0:
		return fmt.Sprintf("a process that runs %s jobs%s: none is there", j.Kind, s.role(j.Kind))
	case listening == 0:
		return fmt.Sprintf("its turn: %d being run, %d waiting", handling, waiting)
	}
	return "being handed over"
}

// role names the role that runs a kind, where it is known.
func (s *Store) role(kind string) string {
	if r := s.opts.RunBy[kind]; r != "" {
		return ", role " + r
	}
	return ""
}
