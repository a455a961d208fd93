package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"tocsin.dev/tocsin/indexer"
	"tocsin.dev/tocsin/indexer/blobs"
	"tocsin.dev/tocsin/indexer/image"
	"tocsin.dev/tocsin/internal/httpapi"
	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/matcher"
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
		m := &indexer.Manifest{Digest: r.Manifest.Hash}
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

func (s images) Delete(ctx context.Context, digest string) error {
	gone, err := s.ix.Delete(ctx, digest)
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
	out := make([]v1.Image, len(found))
	for i, m := range found {
		out[i] = toImage(m)
		if m.IndexedAt != nil && m.State != indexer.StateDeleted {
			n := counts[m.ID]
			out[i].Vulnerabilities = &n
		}
	}
	return out, nil
}

func toImage(m indexer.Image) v1.Image {
	return v1.Image{
		Digest: m.Digest, Names: m.Names, Labels: m.Labels, State: m.State, Reason: m.Reason,
		Packages: m.Packages, CreatedAt: m.CreatedAt, IndexedAt: m.IndexedAt,
	}
}

// indexerError turns the indexer's errors into those the API knows.
func indexerError(err error) error {
	if err == nil {
		return nil
	}
	// The registry hasn't the image, or won't show it.
	if e, ok := errors.AsType[*image.Error](err); ok {
		return &httpapi.FieldError{Field: "image", Message: strings.TrimPrefix(e.Error(), fmt.Sprintf("image %q: ", e.Ref)), Value: e.Ref}
	}
	if invalid := indexer.Invalid(err); len(invalid) > 0 {
		var fields []error
		for _, f := range invalid {
			fields = append(fields, &httpapi.FieldError{Field: f.Field, Message: f.Reason})
		}
		return errors.Join(fields...)
	}
	switch {
	case errors.Is(err, indexer.ErrNotFound):
		return refused(httpapi.ErrNotFound, err)
	case errors.Is(err, indexer.ErrOtherLayers):
		return refused(httpapi.ErrConflict, err)
	}
	return err
}

func badCursor(c string) error {
	return &httpapi.FieldError{Field: "cursor", Message: "is not one that a page answered as next", Value: c}
}

// blobStore answers httpapi.Blobs with the store of uploaded layers.
type blobStore struct{ store *blobs.Store }

func (s blobStore) Put(ctx context.Context, digest string, r io.Reader) (v1.Blob, error) {
	b, err := s.store.Put(ctx, digest, r)
	switch {
	case err == nil:
		return v1.Blob{Digest: b.Digest, Size: b.Size}, nil
	case errors.Is(err, blobs.ErrDigest):
		return v1.Blob{}, &httpapi.FieldError{Field: "digest", Message: err.Error(), Value: digest}
	case errors.Is(err, blobs.ErrTooLarge), errors.Is(err, blobs.ErrFull):
		return v1.Blob{}, refused(httpapi.ErrTooLarge, err)
	}
	return v1.Blob{}, err
}

func (s blobStore) Stat(_ context.Context, digest string) (v1.Blob, error) {
	b, err := s.store.Stat(digest)
	switch {
	case err == nil:
		return v1.Blob{Digest: b.Digest, Size: b.Size}, nil
	case errors.Is(err, blobs.ErrNotFound):
		return v1.Blob{}, refused(httpapi.ErrNotFound, err)
	case errors.Is(err, blobs.ErrDigest):
		return v1.Blob{}, &httpapi.FieldError{Field: "digest", Message: err.Error(), Value: digest}
	}
	return v1.Blob{}, err
}
