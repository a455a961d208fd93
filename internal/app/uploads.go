package app

import (
	"context"
	"path/filepath"

	"tocsin.dev/tocsin/indexer/blobs"
	"tocsin.dev/tocsin/internal/bus"
)

// uploads makes the store of uploaded layers: a directory, and where it is
// configured the object store that all replicas share.
func (a *App) uploads(ctx context.Context, b *bus.Bus) (*blobs.Store, error) {
	c := a.config.Indexer
	o := blobs.Options{MaxBlob: int64(c.MaxLayerSize), MaxTotal: int64(c.MaxUploads)}
	if c.SharedUploads > 0 {
		objects, err := b.Objects(ctx, int64(c.SharedUploads))
		if err != nil {
			return nil, err
		}
		o.Shared, o.MaxShared = sharedBlobs{objects}, int64(c.SharedUploads)
	}
	return blobs.New(filepath.Join(a.config.DataDir, "blobs"), o)
}

// sharedBlobs are blobs as objects of NATS.
type sharedBlobs struct{ *bus.Objects }

// List implements [blobs.Shared].
func (s sharedBlobs) List(ctx context.Context) ([]blobs.Blob, error) {
	objects, err := s.Objects.List(ctx)
	out := make([]blobs.Blob, len(objects))
	for i, o := range objects {
		out[i] = blobs.Blob{Digest: o.Name, Size: o.Size, LastUsed: o.Used}
	}
	return out, err
}
