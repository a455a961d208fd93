package indexer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/klauspost/compress/zstd"
	"github.com/quay/claircore"
	"github.com/quay/claircore/indexer"

	"tocsin.dev/tocsin/indexer/ecosystem"
)

// maxListing is how many bytes a layer's listing may have unpacked. Fetching
// bounds the entries of a layer and the length of their names.
const maxListing = 1 << 31

const (
	insertListing = `
INSERT INTO tocsin.layer_listing (layer_id, files)
SELECT id, @files FROM public.layer WHERE hash = @layer
ON CONFLICT (layer_id) DO UPDATE SET files = excluded.files`

	selectListing = `
SELECT files FROM tocsin.layer_listing JOIN public.layer ON layer.id = layer_id
WHERE hash = @layer`
)

// IndexFiles implements [indexer.Store].
func (s *libStore) IndexFiles(ctx context.Context, files []claircore.File, layer *claircore.Layer, sc indexer.VersionedScanner) error {
	if sc.Name() != (ecosystem.Files{}).Name() {
		return s.Store.IndexFiles(ctx, files, layer, sc)
	}
	packed, err := packListing(files)
	if err != nil {
		return fmt.Errorf("keep the files of layer %s: %w", layer.Hash, err)
	}
	if _, err := s.pool.Exec(ctx, insertListing, pgx.NamedArgs{"layer": layer.Hash.String(), "files": packed}); err != nil {
		return fmt.Errorf("keep the files of layer %s: %w", layer.Hash, err)
	}
	return nil
}

// FilesByLayer implements [indexer.Store] and [ecosystem.Listings].
func (s *libStore) FilesByLayer(ctx context.Context, layer claircore.Digest, scs indexer.VersionedScanners) ([]claircore.File, error) {
	if len(scs) != 1 || scs[0].Name() != (ecosystem.Files{}).Name() {
		return s.Store.FilesByLayer(ctx, layer, scs)
	}
	var packed []byte
	err := s.pool.QueryRow(ctx, selectListing, pgx.NamedArgs{"layer": layer.String()}).Scan(&packed)
	if errors.Is(err, pgx.ErrNoRows) {
		if attemptFrom(ctx).unreadOn(ecosystem.Files{}, layer.String()) {
			return nil, ecosystem.ErrUnlisted
		}
		return nil, nil // an empty layer
	}
	if err != nil {
		return nil, fmt.Errorf("files of layer %s: %w", layer, err)
	}
	files, err := unpackListing(packed)
	if err != nil {
		return nil, fmt.Errorf("files of layer %s: %w", layer, err)
	}
	return files, nil
}

// packListing writes a listing as paths and kinds, each with its length and
// without what it shares with the path before, compressed.
func packListing(files []claircore.File) ([]byte, error) {
	var b []byte
	last := ""
	for _, f := range files {
		shared := 0
		for shared < min(len(last), len(f.Path)) && last[shared] == f.Path[shared] {
			shared++
		}
		b = binary.AppendUvarint(b, uint64(shared))
		b = binary.AppendUvarint(b, uint64(len(f.Path)-shared))
		b = append(b, f.Path[shared:]...)
		b = binary.AppendUvarint(b, uint64(len(f.Kind)))
		b = append(b, f.Kind...)
		last = f.Path
	}
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	defer w.Close()
	return w.EncodeAll(b, nil), nil
}

var errListing = errors.New("the listing is damaged")

func unpackListing(packed []byte) ([]claircore.File, error) {
	r, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxListing))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := r.DecodeAll(packed, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errListing, err)
	}
	number := func() int {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > maxListing {
			b = nil
			return -1
		}
		b = b[size:]
		return int(n)
	}
	var files []claircore.File
	for last := ""; len(b) > 0; {
		shared, rest := number(), number()
		if shared < 0 || rest < 0 || shared > len(last) || rest > len(b) {
			return nil, errListing
		}
		last = last[:shared] + string(b[:rest])
		b = b[rest:]
		kind := number()
		if kind < 0 || kind > len(b) {
			return nil, errListing
		}
		files = append(files, claircore.File{Path: last, Kind: claircore.FileKind(b[:kind])})
		b = b[kind:]
	}
	return files, nil
}
