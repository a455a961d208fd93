package indexer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/quay/claircore"

	"tocsin.dev/tocsin/indexer/blobs"
	"tocsin.dev/tocsin/internal/jobs"
)

const (
	// reindexBatch is how many jobs of re-indexing may wait at a time. Requests
	// that come meanwhile wait behind that many at most.
	reindexBatch = 20
	// pendingAge is how long a recorded manifest may be without a job: the
	// time between the two in [Indexer.Submit].
	pendingAge = time.Minute
	sweepEvery = 10 * time.Minute
)

// maintain looks, every now and then, for work that nobody asked for: manifests
// whose job was never queued, manifests to index again, deleted manifests to
// clean up after, manifests to retire, and blobs that nothing needs. A failure is logged and tried
// again at the next look.
func (ix *Indexer) maintain(ctx context.Context) error {
	tick := time.NewTicker(ix.opts.MaintainEvery)
	defer tick.Stop()
	var swept time.Time
	for {
		ix.children.Reap()
		err := errors.Join(ix.requeuePending(ctx), ix.reindexStale(ctx), ix.purge(ctx), ix.retire(ctx))
		if time.Since(swept) > sweepEvery {
			swept = time.Now()
			err = errors.Join(err, ix.sweepBlobs(ctx))
		}
		if err != nil && ctx.Err() == nil {
			ix.log.WarnContext(ctx, "maintenance of manifests failed; trying again", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (ix *Indexer) requeuePending(ctx context.Context) error {
	digests, err := ix.store.pending(ctx, pendingAge, 100)
	if err != nil {
		return fmt.Errorf("look for pending manifests: %w", err)
	}
	return ix.queueAll(ctx, digests)
}

// reindexStale queues manifests that an older scanner state indexed, and those
// for which a scanner lacked data that is there now, a few at a time.
func (ix *Indexer) reindexStale(ctx context.Context) error {
	waiting, err := ix.opts.Jobs.List(ctx, jobs.Filter{Kind: JobKind, State: jobs.Queued, Limit: reindexBatch})
	if err != nil {
		return err
	}
	room := reindexBatch - len(waiting)
	if room <= 0 {
		return nil
	}
	digests, err := ix.store.stale(ctx, ix.state, room)
	if err != nil {
		return fmt.Errorf("look for stale manifests: %w", err)
	}
	if len(digests) == 0 {
		if digests, err = ix.degradedNow(ctx, room); err != nil {
			return fmt.Errorf("look for degraded manifests: %w", err)
		}
	}
	if len(digests) > 0 {
		ix.log.InfoContext(ctx, "indexing manifests again", "manifests", len(digests), "state", ix.state)
	}
	return ix.queueAll(ctx, digests)
}

// degradedNow lists degraded manifests if what they lacked can be had.
func (ix *Indexer) degradedNow(ctx context.Context, limit int) ([]string, error) {
	digests, err := ix.store.degraded(ctx, limit)
	if err != nil || len(digests) == 0 {
		return nil, err
	}
	for _, m := range ix.mappings {
		if _, err := m.path(ctx); err != nil {
			return nil, nil // still missing: not an error
		}
	}
	return digests, nil
}

func (ix *Indexer) queueAll(ctx context.Context, digests []string) error {
	for _, d := range digests {
		if _, err := ix.queue(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

const (
	unpurged   = `SELECT id, digest FROM tocsin.manifest WHERE state = 'deleted' AND NOT purged ORDER BY id LIMIT 100`
	markPurged = `UPDATE tocsin.manifest SET purged = true WHERE id = @id AND state = 'deleted'`
)

// purge removes what is left of deleted manifests: the inventory's currency and
// claircore's rows.
func (ix *Indexer) purge(ctx context.Context) error {
	rows, err := ix.opts.Pool.Query(ctx, unpurged)
	if err != nil {
		return fmt.Errorf("look for deleted manifests: %w", err)
	}
	type victim struct {
		ID     int32
		Digest string
	}
	victims, err := pgx.CollectRows(rows, pgx.RowToStructByPos[victim])
	if err != nil {
		return fmt.Errorf("look for deleted manifests: %w", err)
	}
	for _, v := range victims {
		if err := ix.purgeOne(ctx, v.ID, v.Digest); err != nil {
			return err
		}
	}
	return nil
}

func (ix *Indexer) purgeOne(ctx context.Context, id int32, digest string) error {
	d, err := claircore.ParseDigest(digest)
	if err != nil {
		return err
	}
	if err := ix.opts.Recorder.Forget(ctx, id); err != nil {
		return fmt.Errorf("forget the inventory of %s: %w", digest, err)
	}
	gone, err := ix.lib.DeleteManifests(ctx, d)
	if err != nil {
		return fmt.Errorf("delete the index of %s: %w", digest, err)
	}
	if len(gone) == 0 {
		if _, ok, err := ix.lib.IndexReport(ctx, d); err != nil || ok {
			return err // it is being indexed at this moment; the next look gets it
		}
	}
	if _, err := ix.opts.Pool.Exec(ctx, markPurged, pgx.NamedArgs{"id": id}); err != nil {
		return fmt.Errorf("mark %s as purged: %w", digest, err)
	}
	return nil
}

// blobNeeds looks up which manifests have the blobs as layers; jsonb_path_ops
// serves the containment.
const blobNeeds = `
SELECT b.digest, bool_or(m.state = 'pending' OR m.state = 'failed')
FROM unnest(@digests::text[]) AS b(digest)
JOIN tocsin.manifest m
  ON m.spec -> 'layers' @> jsonb_build_array(jsonb_build_object('uri', @scheme || b.digest)) AND m.state <> 'deleted'
GROUP BY b.digest`

func (ix *Indexer) sweepBlobs(ctx context.Context) error {
	n, err := ix.blobs.Sweep(ctx, func(ctx context.Context, digests []string) (map[string]blobs.Need, error) {
		rows, err := ix.opts.Pool.Query(ctx, blobNeeds, pgx.NamedArgs{"digests": digests, "scheme": blobs.URI("")})
		if err != nil {
			return nil, err
		}
		needs := map[string]blobs.Need{}
		var digest string
		var waiting bool
		_, err = pgx.ForEachRow(rows, []any{&digest, &waiting}, func() error {
			needs[digest] = blobs.Reindex
			if waiting {
				needs[digest] = blobs.Pending
			}
			return nil
		})
		return needs, err
	})
	if n > 0 {
		ix.log.InfoContext(ctx, "layer blobs removed", "blobs", n)
	}
	return err
}
