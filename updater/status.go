package updater

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// A SetStatus is the state of one enabled set, or of one that is not enabled but
// has run before.
type SetStatus struct {
	Set      string `json:"set"`
	About    string `json:"about"`
	Enabled  bool   `json:"enabled"`
	Schedule string `json:"schedule"`
	// Fixed are the addresses that the set uses whatever its configuration is.
	Fixed string `json:"fixed_addresses,omitempty"`
	// Running tells whether a run is under way; Job is the last run's.
	Running bool      `json:"running"`
	Job     uuid.UUID `json:"job,omitzero"`
	// Result is the set's own: failed if it could not be discovered or was
	// given up. It is empty before the first run.
	Result      Result     `json:"result,omitempty"`
	Error       string     `json:"error,omitempty"`
	LastAttempt *time.Time `json:"last_attempt,omitempty"`
	LastSuccess *time.Time `json:"last_success,omitempty"`
	// Next is when the set is due, which may be past; nil if it runs on
	// demand only.
	Next     *time.Time      `json:"next,omitempty"`
	Updaters []UpdaterStatus `json:"updaters"`
}

// An UpdaterStatus is the state of one updater.
type UpdaterStatus struct {
	Updater     string     `json:"updater"`
	Result      Result     `json:"result"`
	Error       string     `json:"error,omitempty"`
	LastAttempt time.Time  `json:"last_attempt"`
	LastSuccess *time.Time `json:"last_success,omitempty"`
	// Stored is when its data last changed, and Ref that update operation.
	Stored *time.Time `json:"stored,omitempty"`
	Ref    uuid.UUID  `json:"ref,omitzero"`
	// Age is how old the last success is, in seconds.
	Age float64 `json:"age_seconds,omitempty"`
	// Took is how long the last finished run was, in seconds.
	Took float64 `json:"took_seconds,omitempty"`
	// Rows is how many vulnerabilities, or records of an enricher, its data have.
	Rows               int64 `json:"rows"`
	FingerprintChanged bool  `json:"fingerprint_changed"`
	// Failures counts the failed runs in a row, since FailingSince.
	Failures     int        `json:"failures,omitempty"`
	FailingSince *time.Time `json:"failing_since,omitempty"`
	// HeldRows is how many rows the update has that is held back, HeldSince
	// since when; nil if none is.
	HeldRows   *int64     `json:"held_rows,omitempty"`
	HeldSince  *time.Time `json:"held_since,omitempty"`
	Enrichment bool       `json:"enrichment,omitempty"`
}

const selectFresh = `
SELECT updater, max(succeeded_at) FROM tocsin.updater_run
WHERE updater <> '' AND succeeded_at IS NOT NULL
GROUP BY updater`

// Fresh returns when each updater last found its data up to date, by name.
func (s *Service) Fresh(ctx context.Context) (map[string]time.Time, error) {
	rows, err := s.pool.Query(ctx, selectFresh)
	if err != nil {
		return nil, fmt.Errorf("last successes of updaters: %w", err)
	}
	out := make(map[string]time.Time)
	var updater string
	var at time.Time
	_, err = pgx.ForEachRow(rows, []any{&updater, &at}, func() error {
		out[updater] = at
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("last successes of updaters: %w", err)
	}
	return out, nil
}

type statusRow struct {
	SetName            string
	Updater            string
	JobID              *uuid.UUID
	StartedAt          time.Time
	FinishedAt         *time.Time
	Result             string
	Error              string
	Ref                *uuid.UUID
	Vulnerabilities    *int64
	FingerprintChanged bool
	SucceededAt        *time.Time
	StoredAt           *time.Time
	Failures           int
	FailingSince       *time.Time
	HeldRows           *int64
	HeldSince          *time.Time
	Now                time.Time
}

const selectStatus = `
SELECT set_name, updater, job_id, started_at, finished_at, result, error, ref, vulnerabilities, fingerprint_changed,
       succeeded_at, stored_at, failures, failing_since, held_rows, held_since, clock_timestamp() AS now
FROM tocsin.updater_run
ORDER BY set_name, updater`

// Status returns the state of every set, by name, and of its updaters: what the
// rows say, whichever replica wrote them.
func (s *Service) Status(ctx context.Context) ([]SetStatus, error) {
	rows, err := s.pool.Query(ctx, selectStatus)
	if err != nil {
		return nil, fmt.Errorf("updater status: %w", err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByName[statusRow])
	if err != nil {
		return nil, fmt.Errorf("updater status: %w", err)
	}
	last, err := s.record.last(ctx)
	if err != nil {
		return nil, err
	}
	bySet := make(map[string][]statusRow)
	for _, r := range all {
		bySet[r.SetName] = append(bySet[r.SetName], r)
	}
	var out []SetStatus
	for _, set := range s.known {
		_, enabled := s.schedules[set.Name]
		if !enabled && len(bySet[set.Name]) == 0 {
			continue
		}
		out = append(out, s.status(set, enabled, last[set.Name], bySet[set.Name]))
	}
	return out, nil
}

func (s *Service) status(set Set, enabled bool, last lastRun, rows []statusRow) SetStatus {
	st := SetStatus{Set: set.Name, About: set.About, Enabled: enabled, Fixed: set.Fixed, Updaters: []UpdaterStatus{}}
	if enabled {
		st.Schedule = s.spec(set.Name)
		if due, ok := next(set.Name, s.schedules[set.Name], last); ok {
			if due.IsZero() {
				due = s.now()
			}
			st.Next = &due
		}
	} else {
		st.Schedule = Off
	}
	for _, r := range rows {
		if r.Updater == "" {
			st.Running = r.Result == string(Running)
			st.Result, st.Error = Result(r.Result), r.Error
			st.LastAttempt, st.LastSuccess = &r.StartedAt, r.SucceededAt
			if r.JobID != nil {
				st.Job = *r.JobID
			}
			continue
		}
		u := UpdaterStatus{
			Updater: r.Updater, Result: Result(r.Result), Error: r.Error, LastAttempt: r.StartedAt,
			LastSuccess: r.SucceededAt, Stored: r.StoredAt, FingerprintChanged: r.FingerprintChanged,
			Failures: r.Failures, FailingSince: r.FailingSince, HeldRows: r.HeldRows, HeldSince: r.HeldSince, Enrichment: strings.HasPrefix(r.Updater, "clair."),
		}
		if r.Ref != nil {
			u.Ref = *r.Ref
		}
		if r.Vulnerabilities != nil {
			u.Rows = *r.Vulnerabilities
		}
		if r.SucceededAt != nil {
			u.Age = r.Now.Sub(*r.SucceededAt).Seconds()
		}
		if r.FinishedAt != nil {
			u.Took = r.FinishedAt.Sub(r.StartedAt).Seconds()
		}
		st.Updaters = append(st.Updaters, u)
	}
	return st
}
