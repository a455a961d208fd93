package image

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
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

// Open reads an image on disk: "oci:PATH[:TAG]" or
// "docker-archive:PATH[:REFERENCE]". Platforms are as for [Registry.Resolve].
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
	case strings.HasPrefix(ref, archivePrefix):
		images, err = openArchive(strings.TrimPrefix(ref, archivePrefix), filter)
	default:
		err = fmt.Errorf("is not of the form %sPATH[:TAG] or %sPATH[:REFERENCE]", ociPrefix, archivePrefix)
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
	top := func(d v1.Descriptor) bool {
		return tag == "" || d.Annotations[refName] == tag || d.Annotations[containerdName] == tag
	}
	if tag != "" {
		m, err := idx.IndexManifest()
		if err != nil {
			return nil, fmt.Errorf("index.json: %w", err)
		}
		known := false
		for _, d := range m.Manifests {
			known = known || top(d)
		}
		if !known {
			return nil, fmt.Errorf("the layout has no %q", tag)
		}
	}
	found, err := filter.pick(idx, top, 1)
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
				return path.Blob(d.Digest)
			}}
		})
		if err != nil {
			return nil, err
		}
		out = append(out, Image{
			Digest:   p.desc.Digest.String(),
			Platform: platformName(p.platform),
			Names:    []string{layoutName(dir, tag, p.desc)},
			Layers:   ls,
		})
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
	opener := func() (io.ReadCloser, error) { return os.Open(file) }
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
	platform := configPlatform(img)
	if !filter.accept(platform) {
		return nil, nil
	}
	out := Image{Digest: id.String(), Platform: platformName(platform), Names: archiveNames(manifest, tag, file)}
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

func archiveNames(m tarball.Manifest, tag *name.Tag, file string) []string {
	if tag != nil {
		return []string{tag.String()}
	}
	if len(m[0].RepoTags) > 0 {
		return m[0].RepoTags
	}
	return []string{filepath.Base(file)}
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
