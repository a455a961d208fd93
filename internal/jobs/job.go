// Package jobs keeps work that has to be done: indexing a manifest, running an
// updater set. A job is a row of tocsin.job; JetStream only carries its id to
// a runner.
//
// It guarantees, for any number of processes on one database:
//   - A job that was submitted is run until it is done or given up, whatever is
//     killed, restarted or emptied meanwhile. Losing messages costs time, not jobs.
//   - One runner has a job at a time: it holds the row by a lease with a fencing
//     number, renewed while it works. A runner that has lost its lease has its
//     context cancelled, and what it says about the job counts for nothing.
//   - One job of a kind and key is active at a time.
//
// It does not guarantee that a job runs only once, so what a job does has to
// bear repetition; and not the order of jobs. A runner that is cut off from the
// database goes on for at most the rest of its lease.
//
//	          Submit                claim              nil
//	(nothing) ──────► queued ───────────────► running ─────► done
//	                    ▲  ▲                  │ │ │
//	                    │  └── error, again ──┘ │ └── Permanent or last attempt ─► failed
//	                    └── lease over ─────────┘                                    │
//	                    └───────────────────────── Retry ────────────────────────────┘
package jobs

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"

	"tocsin.dev/tocsin/internal/problem"
)

// States of a job.
const (
	Queued  = "queued"
	Running = "running"
	Done    = "done"
	Failed  = "failed"
)

// A Job is one piece of work.
type Job struct {
	ID uuid.UUID `json:"id"`
	// Kind says who runs it, Key what it is about.
	Kind    string          `json:"kind"`
	Key     string          `json:"key"`
	Payload json.RawMessage `json:"payload"`
	State   string          `json:"state"`
	// Rejected says that it is a message nobody could understand: never run,
	// and failed from the start. Payload is a JSON string of its beginning.
	Rejected bool `json:"rejected,omitempty"`
	// Messages is how many of those it stands for: in a storm of them, more than one.
	Messages int64 `json:"messages,omitempty"`
	// Attempts counts the runs that have started, the present one included.
	Attempts int `json:"attempts"`
	// Reason says why the last attempt failed.
	Reason string `json:"reason,omitempty"`
	// Progress and Result are what the job says of itself while it runs and of
	// what came of it.
	Progress string `json:"progress,omitempty"`
	Result   string `json:"result,omitempty"`
	// Fence grows with every run of the job.
	Fence     int64     `json:"-"`
	NextRunAt time.Time `json:"next_run_at"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`

	traceparent string
}

// Active reports whether the job is still to be done.
func (j Job) Active() bool { return j.State == Queued || j.State == Running }

// maxMessage bounds what Message returns, in bytes.
const maxMessage = 1 << 10

// Message is the beginning of a rejected message, and empty for other jobs.
func (j Job) Message() string {
	if !j.Rejected {
		return ""
	}
	var text string
	if json.Unmarshal(j.Payload, &text) != nil {
		text = string(j.Payload)
	}
	return clean(text, maxMessage)
}

// Errors of this package, to be found with errors.Is.
var (
	ErrNotFound = problem.New(problem.NotFound, "no such job")
	// ErrNotFailed is returned for a Retry of a job that is not failed.
	ErrNotFailed = problem.New(problem.Conflict, "only a failed job can be retried")
	// ErrRejected is returned for a Retry of a message nobody could understand.
	ErrRejected = problem.New(problem.Conflict, "a message that could not be understood cannot be retried: publish it again, mended")
	// ErrActive is returned for a Retry when the key has an active job already.
	ErrActive = problem.New(problem.Conflict, "this kind and key already have an active job")
	// ErrLeaseLost is the cause of a job's context that ends because somebody
	// else may have the job now.
	ErrLeaseLost = errors.New("job lease lost")
)

// Permanent marks an error that another attempt would only repeat: the job
// fails at once. Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanentError{err}
}

type permanentError struct{ error }

func (e permanentError) Unwrap() error { return e.error }
