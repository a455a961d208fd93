package api

import (
	"context"
	"errors"
	"io"

	"tocsin.dev/tocsin/indexer/blobs"
	"tocsin.dev/tocsin/internal/httpapi"
	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
)

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

func (s blobStore) Stat(ctx context.Context, digest string) (v1.Blob, error) {
	b, err := s.store.Stat(ctx, digest)
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
