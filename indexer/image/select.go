package image

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// platforms says which manifests of an index are wanted.
type platforms struct {
	want []v1.Platform // empty: all that run Linux
}

func parsePlatforms(specs []string) (platforms, error) {
	var out platforms
	for _, s := range specs {
		p, err := v1.ParsePlatform(s)
		if err != nil || p.OS == "" || strings.ContainsAny(s, " \t\n") {
			return platforms{}, fmt.Errorf("platform %q is not os/arch or os/arch/variant, as in linux/arm64", s)
		}
		out.want = append(out.want, *p)
	}
	return out, nil
}

// accept reports whether a manifest of platform p is wanted; p is nil where
// nothing says what it runs on.
func (f platforms) accept(p *v1.Platform) bool {
	if len(f.want) == 0 {
		return p == nil || p.OS == "" || p.OS == "linux"
	}
	return p != nil && slices.ContainsFunc(f.want, func(w v1.Platform) bool { return p.Satisfies(w) })
}

func (f platforms) String() string {
	if len(f.want) == 0 {
		return "linux"
	}
	names := make([]string, len(f.want))
	for i, p := range f.want {
		names[i] = p.String()
	}
	return strings.Join(names, ", ")
}

// picked is a manifest chosen from an index.
type picked struct {
	img      v1.Image
	desc     v1.Descriptor
	platform *v1.Platform
}

// attestation marks manifests that BuildKit puts beside images in an index.
const attestation = "vnd.docker.reference.type"

var errTooMany = fmt.Errorf("the index leads to more than %d manifests", maxManifests)

// pick walks an index and the indexes in it. It takes the descriptors of the
// first level for which top says so.
func (f platforms) pick(idx v1.ImageIndex, top func(v1.Descriptor) bool, depth int) ([]picked, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("indexes are nested more than %d deep", maxDepth)
	}
	m, err := idx.IndexManifest()
	if err != nil {
		return nil, err
	}
	var out []picked
	for _, d := range m.Manifests {
		if len(out) > maxManifests {
			return nil, errTooMany
		}
		if top != nil && !top(d) || d.Annotations[attestation] != "" {
			continue
		}
		switch {
		case d.MediaType.IsIndex():
			sub, err := idx.ImageIndex(d.Digest)
			if err != nil {
				return nil, err
			}
			more, err := f.pick(sub, nil, depth+1)
			if err != nil {
				return nil, err
			}
			out = append(out, more...)
		case d.MediaType.IsImage():
			platform := d.Platform
			if platform != nil && !f.accept(platform) {
				continue
			}
			img, err := idx.Image(d.Digest)
			if err != nil {
				return nil, err
			}
			if platform == nil {
				if platform = configPlatform(img); !f.accept(platform) {
					continue
				}
			}
			out = append(out, picked{img: img, desc: d, platform: platform})
		}
	}
	return out, nil
}

// configPlatform reads what an image runs on from its configuration; nil if
// that does not say. That the configuration can't be read is no reason to
// refuse an image whose layers can.
func configPlatform(img v1.Image) *v1.Platform {
	cfg, err := img.ConfigFile()
	if err != nil || cfg.OS == "" {
		return nil
	}
	return cfg.Platform()
}

// layers lists the layers of a manifest and checks that they are file systems.
func layers(img v1.Image, of func(v1.Descriptor) Layer) ([]Layer, error) {
	m, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	if m.Config.MediaType != "" && !m.Config.MediaType.IsConfig() {
		return nil, fmt.Errorf("it is an artifact of type %q, not a container image", m.Config.MediaType)
	}
	switch {
	case len(m.Layers) == 0:
		return nil, errors.New("it has no layers")
	case len(m.Layers) > maxLayers:
		return nil, fmt.Errorf("it has %d layers, more than %d", len(m.Layers), maxLayers)
	}
	var out []Layer
	for _, d := range m.Layers {
		if !isFileSystem(d.MediaType) {
			return nil, fmt.Errorf("its layer %s is of type %q, not a file system", d.Digest, d.MediaType)
		}
		out = append(out, of(d))
	}
	return out, nil
}

func isFileSystem(m types.MediaType) bool {
	return m.IsLayer() || m == "application/vnd.docker.image.rootfs.diff.tar.zstd"
}

func platformName(p *v1.Platform) string {
	if p == nil {
		return ""
	}
	return v1.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}.String()
}
