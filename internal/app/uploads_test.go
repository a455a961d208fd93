package app

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tocsin.dev/tocsin/indexer/blobs"
	"tocsin.dev/tocsin/internal/bus"
	"tocsin.dev/tocsin/internal/bus/bustest"
)

const sharedRoom = 8 << 20

// replica is a store of a directory of its own over the object store that is shared.
func replica(t *testing.T, objects *bus.Objects) (*blobs.Store, string) {
	t.Helper()
	dir := t.TempDir()
	s, err := blobs.New(dir, blobs.Options{Shared: sharedBlobs{objects}, MaxShared: sharedRoom})
	if err != nil {
		t.Fatal(err)
	}
	return s, dir
}

func content(t *testing.T, size int) (string, []byte) {
	t.Helper()
	b := make([]byte, size)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("sha256:%x", sha256.Sum256(b)), b
}

// TestReplicasShareUploads: what one replica was given, another opens, though they
// have nothing in common but NATS; what nobody needs goes from all of them.
func TestReplicasShareUploads(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	objects, err := bustest.New(t).Objects(ctx, sharedRoom)
	if err != nil {
		t.Fatal(err)
	}
	a, dirA := replica(t, objects)
	b, dirB := replica(t, objects)
	digest, data := content(t, 3<<20)
	if _, err := b.Stat(ctx, digest); !errors.Is(err, blobs.ErrNotFound) {
		t.Fatalf("before the upload: %v", err)
	}
	if _, err := b.Open(ctx, digest); !errors.Is(err, blobs.ErrNotFound) {
		t.Fatalf("before the upload: %v", err)
	}
	if _, err := a.Put(ctx, digest, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	if got, err := b.Stat(ctx, digest); err != nil || got.Size != int64(len(data)) {
		t.Fatalf("the other replica knows of %+v, %v", got, err)
	}
	f, err := b.Open(ctx, digest)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, data) {
		t.Fatalf("the other replica reads %d bytes, %v", len(got), err)
	}
	// An upload that is not what its digest says is nowhere.
	wrong, _ := content(t, 10)
	if _, err := a.Put(ctx, wrong, bytes.NewReader(data)); !errors.Is(err, blobs.ErrDigest) {
		t.Errorf("a wrong upload: %v", err)
	}
	if _, _, err := objects.Stat(ctx, wrong); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a wrong upload is shared: %v", err)
	}
	// A replica whose directory is lost goes on.
	if err := os.RemoveAll(filepath.Join(dirA, "sha256")); err != nil {
		t.Fatal(err)
	}
	if a, err = blobs.New(dirA, blobs.Options{Shared: sharedBlobs{objects}, MaxShared: sharedRoom}); err != nil {
		t.Fatal(err)
	}
	if f, err := a.Open(ctx, digest); err != nil {
		t.Errorf("after the directory was lost: %v", err)
	} else {
		f.Close()
	}
	// No room is said as such, and leaves what is there.
	large, much := content(t, 7<<20)
	if _, err := a.Put(ctx, large, bytes.NewReader(much)); !errors.Is(err, blobs.ErrFull) {
		t.Errorf("beyond the room: %v", err)
	}
	if _, err := b.Stat(ctx, digest); err != nil {
		t.Errorf("after there was no room: %v", err)
	}

	// Nobody needs it, but it was used just now; then nobody has for long.
	unused := func(context.Context, []string) (map[string]blobs.Need, error) { return nil, nil }
	if n, err := b.Sweep(ctx, unused); n != 0 || err != nil {
		t.Errorf("a sweep removed %d that are in use, %v", n, err)
	}
	old := aged{sharedBlobs{objects}}
	if b, err = blobs.New(dirB, blobs.Options{Shared: old, MaxShared: sharedRoom}); err != nil {
		t.Fatal(err)
	}
	pending := func(_ context.Context, digests []string) (map[string]blobs.Need, error) {
		needs := map[string]blobs.Need{}
		for _, d := range digests {
			needs[d] = blobs.Pending
		}
		return needs, nil
	}
	if n, err := b.Sweep(ctx, pending); n != 0 || err != nil {
		t.Errorf("a sweep removed %d that are waited for, %v", n, err)
	}
	if n, err := b.Sweep(ctx, unused); n != 1 || err != nil {
		t.Errorf("a sweep removed %d, %v; want the shared one", n, err)
	}
	if _, _, err := objects.Stat(ctx, digest); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after the sweep: %v", err)
	}
}

// aged lists shared blobs as unused for two hours.
type aged struct{ sharedBlobs }

func (a aged) List(ctx context.Context) ([]blobs.Blob, error) {
	out, err := a.sharedBlobs.List(ctx)
	for i := range out {
		out[i].LastUsed = out[i].LastUsed.Add(-2 * time.Hour)
	}
	return out, err
}
