package image

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// refName is the annotation that names an entry of a layout; containerdName is
// containerd's, with the full reference.
const (
	refName        = "org.opencontainers.image.ref.name"
	containerdName = "io.containerd.image.name"
)

// Open reads an image on disk: "oci:PATH[:TAG]", "oci-archive:PATH[:TAG]" or
// "docker-archive:PATH[:REFERENCE]". Archives may be compressed by gzip. Platforms are as for [Registry.Resolve].
// The files must stay as they are until the layers have been read.
func Open(ref string, want []string) ([]Image, error) {
	filter, err := parsePlatforms(want)
	if err != nil {
		return nil, &Error{Ref: ref, Reason: err.Error()}
	}
	var images []Image
	switch {
	case strings.HasPrefix(ref, ociPrefix):
		images, err = openLayout(strings.TrimPrefix(ref, ociPrefix), filter)
	case strings.HasPrefix(ref, layoutArchivePrefix):
		images, err = openLayoutArchive(strings.TrimPrefix(ref, layoutArchivePrefix), filter)
	case strings.HasPrefix(ref, archivePrefix):
		images, err = openArchive(strings.TrimPrefix(ref, archivePrefix), filter)
	default:
		err = fmt.Errorf("is not of the form %sPATH[:TAG], %sPATH[:TAG] or %sPATH[:REFERENCE]", ociPrefix, layoutArchivePrefix, archivePrefix)
	}
	if err != nil {
		return nil, &Error{Ref: ref, Reason: err.Error()}
	}
	if len(images) == 0 {
		return nil, &Error{Ref: ref, Reason: "has nothing for the platform " + filter.String()}
	}
	return images, nil
}

// splitTag separates PATH from what follows it. A path that exists wins, so
// that a colon in a file name does no harm.
func splitTag(s string) (path, tag string) {
	if _, err := os.Stat(s); err == nil {
		return s, ""
	}
	for i, c := range s {
		if c == ':' && i > 0 {
			if _, err := os.Stat(s[:i]); err == nil {
				return s[:i], s[i+1:]
			}
		}
	}
	return s, ""
}

func openLayout(spec string, filter platforms) ([]Image, error) {
	dir, tag := splitTag(spec)
	path, err := layout.FromPath(dir)
	if err != nil {
		return nil, fmt.Errorf("not an OCI image layout (a folder with index.json and blobs): %w", err)
	}
	idx, err := path.ImageIndex()
	if err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	return fromLayout(idx, dir, tag, filter, func(h v1.Hash) (io.ReadCloser, error) { return path.Blob(h) })
}

func openLayoutArchive(spec string, filter platforms) ([]Image, error) {
	file, tag := splitTag(spec)
	a, err := readArchived(file)
	if err != nil {
		return nil, fmt.Errorf("not an archive of an OCI image layout: %w", err)
	}
	idx, err := a.index()
	if err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	return fromLayout(idx, "", tag, filter, func(h v1.Hash) (io.ReadCloser, error) { return a.open(blobName(h)) })
}

// fromLayout reads the images of a layout. Its name is that of the directory,
// which is empty if it has none.
func fromLayout(idx v1.ImageIndex, dir, tag string, filter platforms, blob func(v1.Hash) (io.ReadCloser, error)) ([]Image, error) {
	top := func(d v1.Descriptor) bool {
		return tag == "" || d.Annotations[refName] == tag || d.Annotations[containerdName] == tag
	}
	if tag != "" {
		m, err := idx.IndexManifest()
		if err != nil {
			return nil, fmt.Errorf("index.json: %w", err)
		}
		if !slices.ContainsFunc(m.Manifests, top) {
			return nil, fmt.Errorf("the layout has no %q", tag)
		}
	}
	chosen, err := filter.pick(idx, top, 1)
	if err != nil {
		return nil, err
	}
	found, err := chosen.images()
	if err != nil {
		return nil, err
	}
	var out []Image
	for _, p := range found {
		raw, err := p.img.RawManifest()
		if err != nil {
			return nil, err
		}
		if got, _, err := v1.SHA256(strings.NewReader(string(raw))); err != nil || got != p.desc.Digest {
			return nil, fmt.Errorf("the manifest %s has another digest: the layout is damaged", p.desc.Digest)
		}
		ls, err := layers(p.img, func(d v1.Descriptor) Layer {
			return Layer{Digest: d.Digest.String(), MediaType: string(d.MediaType), Size: d.Size, open: func() (io.ReadCloser, error) {
				return blob(d.Digest)
			}}
		})
		if err != nil {
			return nil, err
		}
		img := Image{Digest: p.desc.Digest.String(), Config: configDigest(p.img), Platform: platformName(p.platform), Layers: ls}
		if n := layoutName(dir, tag, p.desc); n != "" {
			img.Names = []string{n}
		}
		out = append(out, img)
	}
	return out, nil
}

// layoutName is what people call an entry of a layout: the full reference if
// an annotation has it, or the folder's name, with the tag if there is one.
func layoutName(dir, tag string, d v1.Descriptor) string {
	if full := d.Annotations[containerdName]; full != "" {
		return full
	}
	ref := d.Annotations[refName]
	if ref == "" {
		ref = tag
	}
	if strings.ContainsAny(ref, "/:") {
		return ref
	}
	if dir == "" {
		return "" // a tag alone is no name
	}
	base := filepath.Base(dir)
	if abs, err := filepath.Abs(dir); err == nil {
		base = filepath.Base(abs)
	}
	if ref == "" || ref == base {
		return base // some tools put the image's name there
	}
	return base + ":" + ref
}

func openArchive(spec string, filter platforms) ([]Image, error) {
	file, ref := splitTag(spec)
	opener := func() (io.ReadCloser, error) { return openPlain(file) }
	manifest, err := tarball.LoadManifest(opener)
	if err != nil {
		return nil, fmt.Errorf("not an archive of docker save: %w", err)
	}
	var tag *name.Tag
	if ref != "" {
		t, err := name.NewTag(ref)
		if err != nil {
			return nil, fmt.Errorf("%q is not a reference", ref)
		}
		tag = &t
	} else if len(manifest) != 1 {
		return nil, fmt.Errorf("the archive has %d images; choose one with %sPATH:REFERENCE", len(manifest), archivePrefix)
	}
	img, err := tarball.Image(opener, tag)
	if err != nil {
		return nil, err
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("image configuration: %w", err)
	}
	id, err := img.ConfigName()
	if err != nil {
		return nil, fmt.Errorf("image configuration: %w", err)
	}
	platform := cfg.Platform()
	if cfg.OS == "" {
		platform = nil
	}
	if !filter.accept(platform) {
		return nil, nil
	}
	out := Image{Digest: id.String(), Config: id.String(), Platform: platformName(platform), Names: archiveNames(manifest, tag)}
	if n := len(cfg.RootFS.DiffIDs); n == 0 || n > maxLayers {
		return nil, fmt.Errorf("it has %d layers; it must have from 1 to %d", n, maxLayers)
	}
	for _, diff := range cfg.RootFS.DiffIDs {
		// Archives hold layers uncompressed or not as the version of Docker
		// likes; the digest of the plain tar is the same in all of them.
		out.Layers = append(out.Layers, Layer{Digest: diff.String(), MediaType: "application/vnd.oci.image.layer.v1.tar", open: func() (io.ReadCloser, error) {
			l, err := img.LayerByDiffID(diff)
			if err != nil {
				return nil, err
			}
			return l.Uncompressed()
		}})
	}
	return []Image{out}, nil
}

// openPlain opens an archive, and unpacks it if it is compressed by gzip.
func openPlain(file string) (io.ReadCloser, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	var head [2]byte
	if n, err := f.ReadAt(head[:], 0); err != nil || n < 2 || head != [2]byte{0x1f, 0x8b} {
		return f, nil
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &unpacked{z, f}, nil
}

type unpacked struct {
	*gzip.Reader
	file *os.File
}

// Close implements [io.Closer].
func (u *unpacked) Close() error { return errors.Join(u.Reader.Close(), u.file.Close()) }

func archiveNames(m tarball.Manifest, tag *name.Tag) []string {
	if tag != nil {
		return []string{tag.String()}
	}
	return m[0].RepoTags // saved by its id, it has no name
}

// isTransport reports whether an error came from the connection rather than
// from what was read over it.
func isTransport(err error) bool {
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) {
		return true
	}
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
}
