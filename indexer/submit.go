package indexer

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"tocsin.dev/tocsin/indexer/image"
	"tocsin.dev/tocsin/internal/jobs"
)

// Submitted is one manifest of a request that was accepted.
type Submitted struct {
	Digest   string
	Platform string // "os/arch[/variant]" if an index said so
	// Job indexes it; the zero Job if it is indexed by the present scanners
	// already.
	Job jobs.Job
	// Known says that Tocsin knew the manifest before.
	Known bool
}

// Submit records a request and queues the work. A reference is resolved at its
// registry first, so that the answer names the manifests and a wrong name is an
// error here and now. Once it returns, the request survives whatever happens
// to this process.
//
// Errors: [*InvalidError] for what can't be accepted ([Invalid] lists them),
// [*image.Error] if the registry hasn't the image or won't show it,
// [ErrOtherLayers]; others may pass.
func (ix *Indexer) Submit(ctx context.Context, r Request) ([]Submitted, error) {
	if err := ix.check(ctx, &r); err != nil {
		return nil, err
	}
	if r.Manifest != nil {
		s, err := ix.submitManifest(ctx, r.Manifest, claims{names: r.Names, labels: r.Labels})
		if err != nil {
			return nil, err
		}
		return []Submitted{s}, nil
	}
	return ix.resolve(ctx, imageToSettle{r.Image, r.Platforms, r.Names, r.Labels})
}

// Enqueue records a request and queues the work like [Indexer.Submit], but
// leaves the resolving of a reference to a job of its own.
func (ix *Indexer) Enqueue(ctx context.Context, r Request) (jobs.Job, error) {
	if err := ix.check(ctx, &r); err != nil {
		return jobs.Job{}, err
	}
	if r.Manifest != nil {
		s, err := ix.submitManifest(ctx, r.Manifest, claims{names: r.Names, labels: r.Labels})
		return s.Job, err
	}
	i := imageToSettle{r.Image, r.Platforms, r.Names, r.Labels}
	job, _, err := ix.opts.Jobs.Submit(ctx, JobKind, i.key(), payload{Image: &i})
	return job, err
}

// key names the job that settles a reference. Requests that say the same share
// it; those with other names or labels don't, since an active job keeps its
// payload.
func (i imageToSettle) key() string {
	if len(i.Platforms) == 0 && len(i.Names) == 0 && len(i.Labels) == 0 {
		return i.Reference
	}
	b, err := json.Marshal(i) // maps are sorted
	if err != nil {
		panic(err) // strings alone
	}
	return fmt.Sprintf("%s#%x", i.Reference, sha256.Sum256(b))[:len(i.Reference)+9]
}

// namesOf are the names an image is given: those asked for, or its reference.
func namesOf(i imageToSettle) []string {
	if len(i.Names) > 0 {
		return i.Names
	}
	return []string{i.Reference}
}

// resolve asks the registry and submits each manifest it names.
func (ix *Indexer) resolve(ctx context.Context, i imageToSettle) ([]Submitted, error) {
	rctx, cancel := context.WithTimeout(ctx, ix.limits.ResolveTimeout)
	images, err := ix.registry.Resolve(rctx, i.Reference, i.Platforms)
	cancel()
	if err != nil {
		return nil, err
	}
	out := make([]Submitted, 0, len(images))
	for _, img := range images {
		m := &Manifest{Digest: img.Digest, Reference: img.Reference, Config: img.Config}
		for _, l := range img.Layers {
			m.Layers = append(m.Layers, Layer{Digest: l.Digest, URI: l.URI})
		}
		if len(m.Layers) > ix.limits.MaxLayers {
			return nil, &image.Error{Ref: i.Reference, Reason: fmt.Sprintf("has %d layers, more than %d", len(m.Layers), ix.limits.MaxLayers)}
		}
		s, err := ix.submitManifest(ctx, m, claims{names: namesOf(i), labels: withPlatform(i.Labels, img.Platform), asked: i.Reference})
		if err != nil {
			return nil, err
		}
		s.Platform = img.Platform
		out = append(out, s)
	}
	if len(i.Platforms) == 0 && slices.Contains(namesOf(i), i.Reference) {
		digests := make([]string, len(out))
		for n, s := range out {
			digests[n] = s.Digest
		}
		if err := ix.store.only(ctx, []string{i.Reference}, digests); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// platformLabel tells the manifests of a multi-platform image apart.
const platformLabel = "platform"

func withPlatform(labels map[string]string, platform string) map[string]string {
	if _, ok := labels[platformLabel]; ok || platform == "" {
		return labels
	}
	out := maps.Clone(labels)
	if out == nil {
		out = map[string]string{}
	}
	out[platformLabel] = platform
	return out
}

// submitManifest writes the manifest down, then queues its job. If the process
// ends in between, maintenance finds the pending row.
func (ix *Indexer) submitManifest(ctx context.Context, m *Manifest, c claims) (Submitted, error) {
	sp, secret := split(m)
	sealed, err := seal(ix.opts.Sealer, m.Digest, secret)
	if err != nil {
		return Submitted{}, err
	}
	before, err := ix.store.record(ctx, m, sp, sealed, c, ix.state)
	if err != nil {
		return Submitted{}, err
	}
	if before.twinned {
		if err := ix.store.share(ctx, before.id); err != nil {
			return Submitted{}, err
		}
	}
	out := Submitted{Digest: m.Digest, Known: before.State != "" && before.State != StateDeleted}
	if before.Current {
		return out, nil
	}
	out.Job, err = ix.queue(ctx, m.Digest)
	return out, err
}

// queue submits the job of a recorded manifest.
func (ix *Indexer) queue(ctx context.Context, digest string) (jobs.Job, error) {
	job, _, err := ix.opts.Jobs.Submit(ctx, JobKind, digest, payload{Digest: digest})
	return job, err
}
