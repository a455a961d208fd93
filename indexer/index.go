package indexer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/quay/claircore"

	"tocsin.dev/tocsin/indexer/image"
	"tocsin.dev/tocsin/internal/jobs"
	"tocsin.dev/tocsin/internal/text"
	"tocsin.dev/tocsin/schemas"
)

// payload is what a job is about: a manifest that is recorded, or a reference
// still to be resolved.
type payload struct {
	Digest string         `json:"digest,omitempty"`
	Image  *imageToSettle `json:"image,omitempty"`
}

type imageToSettle struct {
	Reference string            `json:"reference"`
	Platforms []string          `json:"platforms,omitempty"`
	Names     []string          `json:"names,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
}

// do runs one job.
func (ix *Indexer) do(ctx context.Context, job jobs.Job) error {
	start := time.Now()
	var p payload
	if err := json.Unmarshal(job.Payload, &p); err != nil {
		return jobs.Permanent(fmt.Errorf("job payload: %w", err))
	}
	var err error
	if p.Image != nil {
		err = ix.settle(ctx, *p.Image)
	} else {
		err = ix.index(ctx, p.Digest)
	}
	ix.metrics.attempted(err, time.Since(start))
	return err
}

// settle resolves a reference and submits what it stands for.
func (ix *Indexer) settle(ctx context.Context, i imageToSettle) error {
	jobs.Progress(ctx, "asking the registry")
	submitted, err := ix.resolve(ctx, i)
	if _, ok := errors.AsType[*image.Error](err); ok {
		return jobs.Permanent(err)
	}
	if err != nil {
		return err
	}
	digests := make([]string, len(submitted))
	for n, s := range submitted {
		digests[n] = s.Digest
	}
	jobs.Result(ctx, strings.Join(digests, " "))
	return nil
}

var errIndexTimeout = errors.New("indexing took too long")

// index indexes one recorded manifest, unless the present scanner state has
// done so already.
func (ix *Indexer) index(ctx context.Context, digest string) error {
	m, err := ix.store.load(ctx, digest, ix.state)
	switch {
	case errors.Is(err, ErrNotFound), err == nil && m.State == StateDeleted:
		jobs.Result(ctx, "the manifest has been deleted")
		return nil
	case err == nil && m.State == StateRetired:
		jobs.Result(ctx, "the manifest has been retired")
		return nil
	case err != nil:
		return err
	case m.State == StateIndexed && !m.Stale && !m.Degraded && !m.Replaced && !m.Returned:
		jobs.Result(ctx, digest)
		return ix.done(ctx, m) // an attempt that ended early has not
	}
	if m.Replaced {
		if err := ix.unindex(ctx, digest); err != nil {
			return err
		}
	}
	manifest, err := join(ix.opts.Sealer, m.Spec, m.Sealed)
	if err != nil {
		return jobs.Permanent(err)
	}
	a := &attempt{keepReport: m.HasInventory && !m.Replaced}
	if a.before, err = ix.unreadBefore(ctx, m.Spec); err != nil {
		return err
	}
	if m.Reference != "" {
		a.login = sync.OnceValues(func() (*http.Client, error) {
			rt, err := ix.registry.BlobTransport(ctx, m.Reference)
			if err != nil {
				return nil, err
			}
			return ix.clientOver(rt), nil
		})
	}
	jobs.Progress(ctx, "fetching and scanning layers")
	bounded, cancel := context.WithTimeoutCause(withAttempt(ctx, a), ix.limits.IndexTimeout, errIndexTimeout)
	report, err := ix.lib.Index(bounded, manifest)
	if cause := context.Cause(bounded); errors.Is(cause, errIndexTimeout) {
		err = fmt.Errorf("%w: more than %v", errIndexTimeout, ix.limits.IndexTimeout)
	}
	cancel()
	if noted := ix.store.noteUnread(ctx, a); noted != nil && ctx.Err() == nil {
		return noted // the next attempt finds it out again
	}
	if noted := ix.store.noteContent(ctx, a); noted != nil && ctx.Err() == nil {
		return noted
	}
	if err == nil && !report.Success {
		err = errors.New(report.Err)
	}
	if err != nil {
		return ix.explain(ctx, a, err)
	}
	jobs.Progress(ctx, "recording the inventory")
	partial, err := ix.unreadOf(ctx, m.Spec)
	if err != nil {
		return err
	}
	degraded := a.warnings()
	warnings := append(slices.Clone(degraded), unreadWarnings(partial)...)
	if err := ix.store.describe(ctx, m.ID, len(report.Packages), warnings, len(degraded) > 0); err != nil {
		return err
	}
	if err := ix.store.identify(ctx, m.ID, m.Spec); err != nil {
		return err
	}
	err = ix.opts.Recorder.Indexed(ctx, Indexed{
		ID: m.ID, Digest: m.Digest, Names: m.Names, Labels: m.Labels, NamingID: m.NamingID,
		IndexerState: ix.state, Reindexed: m.HasInventory, Warnings: warnings, Force: m.Returned,
	}, report)
	if err != nil {
		return err
	}
	jobs.Result(ctx, digest)
	return ix.done(ctx, m)
}

// done does what is left once an inventory is recorded.
func (ix *Indexer) done(ctx context.Context, m row) error {
	if err := ix.store.share(ctx, m.ID); err != nil {
		return err
	}
	return ix.store.finish(ctx, m.ID, m.Spec)
}

// unindex makes claircore forget its index of layers that the digest has not.
func (ix *Indexer) unindex(ctx context.Context, digest string) error {
	d, err := claircore.ParseDigest(digest)
	if err != nil {
		return jobs.Permanent(err)
	}
	if _, err := ix.lib.DeleteManifests(ctx, d); err != nil {
		return fmt.Errorf("forget the index of other layers: %w", err)
	}
	return nil
}

// explain finds in an error of claircore's what a person wants to know, and
// whether another attempt can help.
func (ix *Indexer) explain(ctx context.Context, a *attempt, err error) error {
	if ctx.Err() != nil {
		return err // the process stops, or the job is no longer ours
	}
	if lost := a.lockError(); lost != nil {
		return lost
	}
	if h, ok := errors.AsType[*hostileError](err); ok {
		return jobs.Permanent(h)
	}
	if fe, ok := errors.AsType[*FetchError](err); ok {
		if fe.Permanent {
			return jobs.Permanent(fe)
		}
		return fe
	}
	return err
}

// JobFailed notes that a job of [JobKind] was given up, or rejected to begin
// with, and announces it, in the transaction that says so: it is for the
// OnFailed hook of the job store.
func (ix *Indexer) JobFailed(ctx context.Context, tx pgx.Tx, job jobs.Job) error {
	if job.Rejected {
		var payload string
		if err := json.Unmarshal(job.Payload, &payload); err != nil {
			payload = string(job.Payload)
		}
		return ix.opts.Announcer.JobRejected(ctx, tx, schemas.JobRejected{
			Job: job.ID.String(), Kind: job.Kind, Reason: job.Reason, Payload: text.Cut(payload, 1<<10),
		})
	}
	data := schemas.ManifestIndexFailed{Job: job.ID.String(), Reason: job.Reason, Attempts: job.Attempts}
	var p payload
	if err := json.Unmarshal(job.Payload, &p); err != nil {
		return ix.opts.Announcer.ManifestIndexFailed(ctx, tx, data)
	}
	if p.Image != nil {
		// A tag that is followed is asked for again and again.
		if told, err := ix.opts.Jobs.FailedBefore(ctx, tx, job); err != nil || told {
			return err
		}
		data.Manifest = schemas.Manifest{Names: namesOf(*p.Image), Labels: p.Image.Labels}
		return ix.opts.Announcer.ManifestIndexFailed(ctx, tx, data)
	}
	names, labels, ok, err := ix.store.fail(ctx, tx, p.Digest, ix.state, job.Reason)
	if err != nil || !ok {
		return err
	}
	data.Manifest = schemas.Manifest{Digest: p.Digest, Names: names, Labels: labels}
	return ix.opts.Announcer.ManifestIndexFailed(ctx, tx, data)
}
