package matcher

import (
	"context"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// aliveFor is how long a process counts as at work after it was last seen,
	// seenEvery how often one that is tells so.
	aliveFor  = 2 * time.Minute
	seenEvery = 20 * time.Second

	findProcess = `
SELECT host, pid, names FROM tocsin.matcher_process
WHERE fingerprint = @fingerprint AND seen_at > clock_timestamp() - make_interval(secs => @seconds)
ORDER BY seen_at DESC LIMIT 1`

	seeProcess = `
WITH ended AS (DELETE FROM tocsin.matcher_process WHERE seen_at < clock_timestamp() - INTERVAL '1 hour' AND id <> @id)
INSERT INTO tocsin.matcher_process (id, host, pid, fingerprint, names, seen_at)
VALUES (@id, @host, @pid, @fingerprint, @names, clock_timestamp())
ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at`
	endProcess = `DELETE FROM tocsin.matcher_process WHERE id = @id`

	// endWithin bounds how long a process that ends tries to record that.
	endWithin = 3 * time.Second
)

// stayAlive keeps this process's row in tocsin.matcher_process fresh until ctx
// ends, and takes it away then.
func (e *Engine) stayAlive(ctx context.Context) {
	tick := time.NewTicker(seenEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			e.seen(ctx)
		case <-ctx.Done():
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endWithin)
			defer cancel()
			if _, err := e.pool.Exec(ctx, endProcess, pgx.NamedArgs{"id": e.process}); err != nil {
				e.log.WarnContext(ctx, "the end of this process could not be recorded; one with other matchers waits for it", "wait", aliveFor, "reason", err)
			}
			return
		}
	}
}

// seen records that this process is at work.
func (e *Engine) seen(ctx context.Context) {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	_, err = e.pool.Exec(ctx, seeProcess, pgx.NamedArgs{
		"id": e.process, "host": host, "pid": os.Getpid(), "fingerprint": e.declared.fingerprint, "names": e.declared.names(),
	})
	if err != nil && ctx.Err() == nil {
		e.log.WarnContext(ctx, "this process could not be recorded as at work", "reason", err)
	}
}
