package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// archived is an OCI image layout in a tar archive, as skopeo and buildx write
// it.
type archived struct {
	file  string
	files map[string]span // by name
}

// span is where a file is in the archive, unpacked.
type span struct{ at, size int64 }

// maxArchived is how many files a layout in an archive may have.
const maxArchived = 100_000

// readArchived finds the files of a layout.
func readArchived(file string) (*archived, error) {
	f, err := openPlain(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	a := &archived{file: file, files: map[string]span{}}
	counted := &counter{r: f}
	for r := tar.NewReader(counted); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("not a tar archive: %w", err)
		}
		if h.Typeflag == tar.TypeReg {
			a.files[path.Clean(h.Name)] = span{counted.n, h.Size}
		}
		if len(a.files) > maxArchived {
			return nil, fmt.Errorf("it has more than %d files", maxArchived)
		}
	}
	if _, ok := a.files["oci-layout"]; !ok {
		return nil, errors.New("it has no oci-layout")
	}
	return a, nil
}

// IsLayoutArchive reports whether a file is an archive of an OCI image layout
// and not of docker save, which may hold both.
func IsLayoutArchive(file string) bool {
	a, err := readArchived(file)
	if err != nil {
		return false
	}
	_, both := a.files["manifest.json"]
	return !both
}

type counter struct {
	r io.Reader
	n int64
}

// Read implements [io.Reader].
func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// open opens a file of the layout.
func (a *archived) open(name string) (io.ReadCloser, error) {
	s, ok := a.files[name]
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, os.ErrNotExist)
	}
	f, err := openPlain(a.file)
	if err != nil {
		return nil, err
	}
	if _, err := io.CopyN(io.Discard, f, s.at); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(f, s.size), f}, nil
}

// read reads a small file of the layout.
func (a *archived) read(name string) ([]byte, error) {
	if s := a.files[name]; s.size > maxManifestBytes {
		return nil, fmt.Errorf("%s has %d bytes, more than %d", name, s.size, maxManifestBytes)
	}
	f, err := a.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

func blobName(h v1.Hash) string { return path.Join("blobs", h.Algorithm, h.Hex) }

// index is the layout's index.
func (a *archived) index() (v1.ImageIndex, error) {
	raw, err := a.read("index.json")
	if err != nil {
		return nil, err
	}
	return &archivedIndex{a, raw}, nil
}

type archivedIndex struct {
	of  *archived
	raw []byte
}

var _ v1.ImageIndex = (*archivedIndex)(nil)

func (i *archivedIndex) MediaType() (types.MediaType, error) { return types.OCIImageIndex, nil }
func (i *archivedIndex) Digest() (v1.Hash, error)            { return partial.Digest(i) }
func (i *archivedIndex) Size() (int64, error)                { return int64(len(i.raw)), nil }
func (i *archivedIndex) RawManifest() ([]byte, error)        { return i.raw, nil }
func (i *archivedIndex) IndexManifest() (*v1.IndexManifest, error) {
	return v1.ParseIndexManifest(strings.NewReader(string(i.raw)))
}

func (i *archivedIndex) ImageIndex(h v1.Hash) (v1.ImageIndex, error) {
	raw, err := i.of.verified(h)
	if err != nil {
		return nil, err
	}
	return &archivedIndex{i.of, raw}, nil
}

func (i *archivedIndex) Image(h v1.Hash) (v1.Image, error) {
	raw, err := i.of.verified(h)
	if err != nil {
		return nil, err
	}
	return partial.CompressedToImage(&archivedImage{i.of, raw})
}

// verified reads a manifest or an index, which must have the digest it is
// named by.
func (a *archived) verified(h v1.Hash) ([]byte, error) {
	raw, err := a.read(blobName(h))
	if err != nil {
		return nil, err
	}
	if got, _, err := v1.SHA256(strings.NewReader(string(raw))); err != nil || got != h {
		return nil, fmt.Errorf("the blob %s has another digest: the archive is damaged", h)
	}
	return raw, nil
}

type archivedImage struct {
	of  *archived
	raw []byte
}

func (i *archivedImage) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }
func (i *archivedImage) RawManifest() ([]byte, error)        { return i.raw, nil }

func (i *archivedImage) RawConfigFile() ([]byte, error) {
	m, err := partial.Manifest(i)
	if err != nil {
		return nil, err
	}
	return i.of.read(blobName(m.Config.Digest))
}

// LayerByDigest implements [partial.CompressedImageCore]. Layers are read by
// their names.
func (i *archivedImage) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	return nil, fmt.Errorf("layer %s: %w", h, errors.ErrUnsupported)
}
