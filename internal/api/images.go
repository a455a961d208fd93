package api

import (
	"context"
	"slices"
	"strconv"

	"github.com/quay/claircore"

	"tocsin.dev/tocsin/indexer"
	"tocsin.dev/tocsin/internal/httpapi"
	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/matcher"
	"tocsin.dev/tocsin/schemas"
)

// images answers httpapi.Images with the indexer, and with the matcher for what
// is wrong with them.
type images struct {
	ix     *indexer.Indexer
	engine *matcher.Engine
}

func (s images) Submit(ctx context.Context, r v1.ImageRequest) ([]v1.Submitted, error) {
	req := indexer.Request{Image: r.Image, Platforms: r.Platforms, Names: r.Names, Labels: r.Labels}
	if r.Manifest != nil {
		m := &indexer.Manifest{Digest: r.Manifest.Hash, Config: r.Manifest.Config}
		for _, l := range r.Manifest.Layers {
			m.Layers = append(m.Layers, indexer.Layer{Digest: l.Hash, URI: l.URI, Headers: l.Headers})
		}
		req.Manifest = m
	}
	submitted, err := s.ix.Submit(ctx, req)
	if err != nil {
		return nil, indexerError(err)
	}
	out := make([]v1.Submitted, len(submitted))
	for i, m := range submitted {
		out[i] = v1.Submitted{Digest: m.Digest, Platform: m.Platform, Known: m.Known}
		if m.Job.Kind != "" {
			job := toJob(m.Job)
			out[i].Job = &job
		}
	}
	return out, nil
}

func (s images) List(ctx context.Context, q v1.ImageQuery) (v1.Page[v1.Image], error) {
	if q.Ref != "" {
		return s.find(ctx, q)
	}
	f := indexer.Filter{Name: q.Name, State: q.State, Limit: q.Limit}
	if q.Cursor != "" {
		n, err := strconv.ParseInt(q.Cursor, 10, 32)
		if err != nil {
			return v1.Page[v1.Image]{}, badCursor(q.Cursor)
		}
		f.Before = int32(n)
	}
	found, err := s.ix.List(ctx, f)
	if err != nil {
		return v1.Page[v1.Image]{}, indexerError(err)
	}
	items, err := s.describe(ctx, found...)
	if err != nil {
		return v1.Page[v1.Image]{}, err
	}
	page := v1.Page[v1.Image]{Items: items}
	if q.Limit > 0 && len(found) == q.Limit {
		page.Next = strconv.Itoa(int(found[len(found)-1].ID))
	}
	return page, nil
}

// find lists what a name stands for now, on one page: a name has few platforms.
func (s images) find(ctx context.Context, q v1.ImageQuery) (v1.Page[v1.Image], error) {
	found, err := s.ix.Lookup(ctx, q.Ref)
	if err != nil {
		return v1.Page[v1.Image]{}, indexerError(err)
	}
	if q.State != "" {
		found = slices.DeleteFunc(found, func(m indexer.Image) bool { return m.State != q.State })
	}
	items, err := s.describe(ctx, found...)
	return v1.Page[v1.Image]{Items: items}, err
}

func (s images) Get(ctx context.Context, ref string) (v1.Image, error) {
	m, err := s.ix.Get(ctx, ref)
	if err != nil {
		return v1.Image{}, indexerError(err)
	}
	items, err := s.describe(ctx, m)
	if err != nil {
		return v1.Image{}, err
	}
	return items[0], nil
}

func (s images) Delete(ctx context.Context, ref string) error {
	found, err := s.ix.Find(ctx, ref)
	if err != nil {
		return indexerError(err)
	}
	digests := make([]string, len(found))
	for i, m := range found {
		digests[i] = m.Digest
	}
	gone, err := s.ix.Delete(ctx, digests...)
	if err == nil && len(gone) == 0 {
		return httpapi.ErrNotFound
	}
	return indexerError(err)
}

// describe adds the counts of findings to images that are indexed.
func (s images) describe(ctx context.Context, found ...indexer.Image) ([]v1.Image, error) {
	ids := make([]int32, len(found))
	for i, m := range found {
		ids[i] = m.ID
	}
	counts, err := s.engine.Counts(ctx, ids)
	if err != nil {
		return nil, err
	}
	coverage, err := s.engine.Coverages(ctx, ids)
	if err != nil {
		return nil, err
	}
	out := make([]v1.Image, len(found))
	for i, m := range found {
		out[i] = toImage(m)
		if m.IndexedAt != nil && m.State != indexer.StateDeleted && m.State != indexer.StateRetired {
			n := counts[m.ID]
			out[i].Vulnerabilities = &n
			c, ok := coverage[m.ID]
			if !ok {
				if c, err = s.ofNothing(ctx, m.Digest); err != nil {
					return nil, err
				}
			}
			out[i].Coverage = c.Degraded(m.Warnings).State
		}
	}
	return out, nil
}

// ofNothing is the coverage of an image without packages, which its
// distribution decides.
func (s images) ofNothing(ctx context.Context, digest string) (schemas.Coverage, error) {
	d, err := claircore.ParseDigest(digest)
	if err != nil {
		return schemas.Coverage{}, err
	}
	report, ok, err := s.ix.IndexReport(ctx, d)
	if err != nil || !ok {
		return schemas.Coverage{}, err
	}
	return s.engine.Coverage(ctx, report)
}

func toImage(m indexer.Image) v1.Image {
	return v1.Image{
		Digest: m.Digest, Names: m.Names, Also: m.Also, Labels: m.Labels, Platform: m.Platform, Verified: m.Verified, Superseded: m.Superseded, State: m.State, Reason: m.Reason,
		Packages: m.Packages, CreatedAt: m.CreatedAt, IndexedAt: m.IndexedAt,
	}
}
