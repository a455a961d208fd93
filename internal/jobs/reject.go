package jobs

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/bus"
)

// rejectedAlone is how many messages of a kind that nobody could understand have a
// job and an event each within ten minutes; those after them share one.
const rejectedAlone = 10

const (
	rejectSQL = `
INSERT INTO tocsin.job (kind, key, payload, state, rejected, reason)
SELECT @kind::text, @key::text, @payload::json, 'failed', true, @reason::text
WHERE NOT EXISTS (
  SELECT FROM tocsin.job
  WHERE kind = @kind AND key = @key AND rejected AND state = 'failed' AND created_at > now() - interval '10 minutes')
AND @alone > (
  SELECT count(*) FROM tocsin.job WHERE kind = @kind AND rejected AND created_at > now() - interval '10 minutes')
RETURNING ` + columns

	rejectedSQL = `
SELECT ` + columns + ` FROM tocsin.job
WHERE kind = @kind AND key = @key AND rejected AND created_at > now() - interval '10 minutes'
ORDER BY id DESC LIMIT 1`

	// stormSQL counts a message in the job of its ten minutes. The time of the last
	// change is kept coarse, so that counting writes no index.
	stormSQL = `
INSERT INTO tocsin.job (kind, key, payload, state, rejected, reason)
VALUES (@kind, 'storm:' || to_char(date_bin('10 minutes', now(), 'epoch'::timestamptz) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI"Z"'),
  @payload::json, 'failed', true, @reason)
ON CONFLICT (kind, key) WHERE rejected AND key LIKE 'storm:%' DO UPDATE
SET messages = job.messages + 1, payload = excluded.payload, reason = excluded.reason,
    updated_at = CASE WHEN job.updated_at < now() - interval '10 seconds' THEN now() ELSE job.updated_at END
RETURNING ` + columns
)

// Reject keeps a message that nobody can understand as a failed job, with the
// reason and the first 4 KiB of it. The same message within ten minutes, as
// when it is handed over again, is the same job. After a few within ten minutes,
// all others of the kind are one job, which counts them and has the last, and one
// event: however many there are, they cost a row.
func (s *Store) Reject(ctx context.Context, kind string, payload []byte, reason string) (Job, error) {
	text, err := json.Marshal(clean(string(payload), rejectedKept))
	if err != nil {
		return Job{}, fmt.Errorf("reject %s message: %w", kind, err)
	}
	args := pgx.NamedArgs{
		"kind": kind, "key": fmt.Sprintf("sha256:%x", sha256.Sum256(payload)), "alone": rejectedAlone,
		"payload": json.RawMessage(text), "reason": clean(reason, maxReason),
	}
	var job Job
	isNew := false
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		job, err = one(ctx, tx, rejectSQL, args)
		isNew = err == nil
		if errors.Is(err, pgx.ErrNoRows) {
			if job, err = one(ctx, tx, rejectedSQL, args); err == nil {
				return nil
			}
		}
		if errors.Is(err, pgx.ErrNoRows) {
			job, err = one(ctx, tx, stormSQL, args)
			isNew = err == nil && job.Messages == 1
			if isNew {
				said := job
				said.Reason = "one of many: further ones of these ten minutes are counted in this job and not announced; " + job.Reason
				return s.announce(ctx, tx, said)
			}
		}
		if err != nil || !isNew {
			return err
		}
		return s.announce(ctx, tx, job)
	})
	if err != nil {
		return Job{}, fmt.Errorf("reject %s message: %w", kind, err)
	}
	s.metrics.ended(kind, "rejected")
	if isNew {
		s.bus.Wake(bus.WakeJobs)
	}
	return job, nil
}
