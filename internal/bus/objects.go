package bus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// ObjectBucket is the name of the bucket of [Bus.Objects]: its stream is
// OBJ_TOCSIN_BLOBS.
const ObjectBucket = "TOCSIN_BLOBS"

// Objects are files in a JetStream object store, by name. Its methods may be
// called concurrently. An object that is not there is fs.ErrNotExist, one that there
// is no room for syscall.ENOSPC.
type Objects struct{ store jetstream.ObjectStore }

// An Object is an entry of a list of objects.
type Object struct {
	Name string
	Size int64     // bytes
	Used time.Time // when it was stored or last touched, by the server's clock
}

// Objects returns the object store, made or changed to hold at most maxBytes in
// all, with as many replicas as the streams have.
func (b *Bus) Objects(ctx context.Context, maxBytes int64) (*Objects, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	store, err := b.js.CreateOrUpdateObjectStore(ctx, jetstream.ObjectStoreConfig{
		Bucket: ObjectBucket, Description: "layers that clients uploaded", MaxBytes: maxBytes, Replicas: b.streams.Replicas, Storage: jetstream.FileStorage,
	})
	if err != nil {
		return nil, fmt.Errorf("NATS: object store %s: %w%s", ObjectBucket, err, quorumHint(err))
	}
	return &Objects{store}, nil
}

// Put stores what r yields under a name; an object that is there is replaced. It
// returns nil only when all of it is acknowledged.
func (o *Objects) Put(ctx context.Context, name string, r io.Reader) error {
	_, err := o.store.Put(ctx, jetstream.ObjectMeta{Name: name}, r)
	if err != nil {
		// The object's metadata may have been stored although a part of its data
		// was refused.
		if rerr := o.Remove(context.WithoutCancel(ctx), name); rerr != nil {
			err = errors.Join(err, rerr)
		}
	}
	return objectError(name, err)
}

// Get opens an object. Reading fails at the end if what came is not what was
// stored. The caller closes it.
func (o *Objects) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	r, err := o.store.Get(ctx, name)
	if err != nil {
		return nil, objectError(name, err)
	}
	return r, nil
}

// Stat returns an object's size in bytes, and when it was last stored or touched.
func (o *Objects) Stat(ctx context.Context, name string) (size int64, used time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	i, err := o.store.GetInfo(ctx, name)
	if err != nil {
		return 0, time.Time{}, objectError(name, err)
	}
	return int64(i.Size), i.ModTime, nil
}

// Touch notes that an object is in use: its time is now.
func (o *Objects) Touch(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return objectError(name, o.store.UpdateMeta(ctx, name, jetstream.ObjectMeta{Name: name}))
}

// List returns all objects, in no order.
func (o *Objects) List(ctx context.Context) ([]Object, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	found, err := o.store.List(ctx)
	if errors.Is(err, jetstream.ErrNoObjectsFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("NATS: list objects: %w", err)
	}
	out := make([]Object, len(found))
	for i, f := range found {
		out[i] = Object{Name: f.Name, Size: int64(f.Size), Used: f.ModTime}
	}
	return out, nil
}

// Remove removes an object, if it is there.
func (o *Objects) Remove(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if err := objectError(name, o.store.Delete(ctx, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func objectError(name string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jetstream.ErrObjectNotFound), errors.Is(err, jetstream.ErrUpdateMetaDeleted):
		return fmt.Errorf("NATS: object %s: %w", name, fs.ErrNotExist)
	}
	if apiErr, ok := errors.AsType[*jetstream.APIError](err); ok && apiErr.ErrorCode == bucketFull {
		return fmt.Errorf("NATS: object %s: %w: %w", name, syscall.ENOSPC, err)
	}
	return fmt.Errorf("NATS: object %s: %w%s", name, err, quorumHint(err))
}

// bucketFull is JetStream's code for a message that the limit of its stream's bytes
// leaves no room for.
const bucketFull = 10077
