package clair

//lint:file-ignore SA1019 claircore's Manifest has no other place for where a layer is.

import (
	"context"
	"errors"
	"fmt"

	"github.com/quay/claircore"

	"tocsin.dev/tocsin/indexer"
	"tocsin.dev/tocsin/matcher"
)

// images is an [Indexer].
type images struct {
	ix     *indexer.Indexer
	engine *matcher.Engine
}

// Images is the indexing half of Clair by Tocsin's roles: an index request is
// a job like any other, and its caller waits for it.
func Images(ix *indexer.Indexer, engine *matcher.Engine) Indexer { return images{ix, engine} }

func (c images) Index(ctx context.Context, m *claircore.Manifest) (*claircore.IndexReport, error) {
	req := indexer.Request{Manifest: &indexer.Manifest{Digest: m.Hash.String()}}
	for _, l := range m.Layers {
		req.Manifest.Layers = append(req.Manifest.Layers, indexer.Layer{Digest: l.Hash.String(), URI: l.URI, Headers: indexer.Sendable(l.Headers)})
	}
	submitted, err := c.ix.Submit(ctx, req)
	switch {
	case errors.Is(err, indexer.ErrOtherLayers): // as in Clair, what is indexed is the answer
		report, ok, readErr := c.ix.IndexReport(ctx, m.Hash)
		if readErr != nil || !ok || !report.Success {
			return nil, errors.Join(err, readErr)
		}
		return report, nil
	case hopeless(err):
		return nil, fmt.Errorf("%w: %w", ErrBadManifest, err)
	case err != nil:
		return nil, err
	case submitted[0].Job.Kind != "":
		rest(ctx)
		if err := c.ix.Attempt(ctx, submitted[0].Job); err != nil {
			if failed, ok := errors.AsType[*indexer.AttemptError](err); ok && failed.Unsupported {
				err = fmt.Errorf("%w: %w", ErrBadManifest, err)
			}
			return nil, err
		}
	}
	report, ok, err := c.ix.IndexReport(ctx, m.Hash)
	if err == nil && !ok {
		err = errors.New("the manifest was deleted while it was indexed")
	}
	return report, err
}

// hopeless reports whether a request was refused for what no retry can mend.
// Quay, answered 400, never sends the manifest again.
func hopeless(err error) bool {
	for _, e := range indexer.Invalid(err) {
		if !e.Passing {
			return true
		}
	}
	return false
}

func (c images) State(context.Context) (string, error) { return c.ix.State(), nil }

func (c images) IndexReport(ctx context.Context, d claircore.Digest) (*claircore.IndexReport, bool, error) {
	return c.ix.IndexReport(ctx, d)
}

func (c images) DeleteManifests(ctx context.Context, ds ...claircore.Digest) ([]claircore.Digest, error) {
	names := make([]string, len(ds))
	for i, d := range ds {
		names[i] = d.String()
	}
	gone, err := c.ix.Delete(ctx, names...)
	if err != nil {
		return nil, err
	}
	out := make([]claircore.Digest, 0, len(gone))
	for _, name := range gone {
		d, err := claircore.ParseDigest(name)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

// AffectedManifests judges the vulnerabilities as they are given, with the
// engine that reports are made with, so that the two agree.
func (c images) AffectedManifests(ctx context.Context, vulns []claircore.Vulnerability) (*claircore.AffectedManifests, error) {
	found, err := c.engine.AffectedBy(ctx, vulns)
	if err != nil {
		return nil, err
	}
	out := claircore.NewAffectedManifests()
	for i, names := range found {
		digests := make([]claircore.Digest, len(names))
		for j, name := range names {
			if digests[j], err = claircore.ParseDigest(name); err != nil {
				return nil, err
			}
		}
		out.Add(&vulns[i], digests...)
	}
	out.Sort()
	return &out, nil
}
