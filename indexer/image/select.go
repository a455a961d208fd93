package image

import (
	"errors"
	"fmt"
	"maps"
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

// choice is what was chosen from an index.
type choice struct {
	picked []picked
	// passed is what is wrong with the last manifest that was passed over since
	// it is no container image.
	passed error
}

// images returns what was chosen; if that is nothing, what was passed over is
// the error.
func (c choice) images() ([]picked, error) {
	if len(c.picked) == 0 && c.passed != nil {
		return nil, c.passed
	}
	return c.picked, nil
}

// attestation marks manifests that BuildKit puts beside images in an index.
const attestation = "vnd.docker.reference.type"

var errTooMany = fmt.Errorf("the index leads to more than %d manifests", maxManifests)

// pick walks an index and the indexes in it. It takes the descriptors of the
// first level for which top says so. What is no container image, such as a
// signature or an attestation, is passed over.
func (f platforms) pick(idx v1.ImageIndex, top func(v1.Descriptor) bool, depth int) (out choice, err error) {
	if depth > maxDepth {
		return out, fmt.Errorf("indexes are nested more than %d deep", maxDepth)
	}
	m, err := idx.IndexManifest()
	if err != nil {
		return out, err
	}
	for _, d := range m.Manifests {
		if len(out.picked) > maxManifests {
			return out, errTooMany
		}
		if top != nil && !top(d) || d.Annotations[attestation] != "" {
			continue
		}
		switch kind := bareType(d.MediaType); {
		case kind.IsIndex():
			sub, err := idx.ImageIndex(d.Digest)
			if err != nil {
				return out, err
			}
			more, err := f.pick(sub, nil, depth+1)
			if err != nil {
				return out, err
			}
			for i := range more.picked {
				inherit(&more.picked[i].desc, d)
			}
			out.picked = append(out.picked, more.picked...)
			if more.passed != nil {
				out.passed = more.passed
			}
		case kind.IsImage():
			platform := d.Platform
			if platform != nil && !f.accept(platform) {
				continue
			}
			img, err := idx.Image(d.Digest)
			if err != nil {
				return out, err
			}
			if err := isContainer(img); err != nil {
				out.passed = err
				continue
			}
			if platform == nil {
				if platform, err = f.configPlatform(img); err != nil {
					return out, err
				}
				if !f.accept(platform) {
					continue
				}
			}
			out.picked = append(out.picked, picked{img: img, desc: d, platform: platform})
		}
	}
	return out, nil
}

// inherit gives a manifest the names of the index that it is in, where it has
// none of its own.
func inherit(d *v1.Descriptor, from v1.Descriptor) {
	for _, key := range []string{containerdName, refName} {
		if v := from.Annotations[key]; v != "" && d.Annotations[containerdName] == "" && d.Annotations[refName] == "" {
			d.Annotations = maps.Clone(d.Annotations)
			if d.Annotations == nil {
				d.Annotations = map[string]string{}
			}
			d.Annotations[key] = v
		}
	}
}

// bareType is a media type without parameters.
func bareType(m types.MediaType) types.MediaType {
	bare, _, _ := strings.Cut(string(m), ";")
	return types.MediaType(strings.TrimSpace(bare))
}

// isContainer reports why a manifest is no container image; nil if it is.
func isContainer(img v1.Image) error {
	m, err := img.Manifest()
	if err != nil {
		return err
	}
	if kind := bareType(m.Config.MediaType); kind != "" && !kind.IsConfig() {
		return fmt.Errorf("it is an artifact of type %q, not a container image", m.Config.MediaType)
	}
	for _, d := range m.Layers {
		if !isFileSystem(d.MediaType) {
			return fmt.Errorf("its layer %s is of type %q, not a file system", d.Digest, d.MediaType)
		}
	}
	return nil
}

// errUnknownPlatform is the error of an image that may have the wanted platform
// or not.
var errUnknownPlatform = errors.New("its configuration, which says what it runs on, can't be read")

// configPlatform reads what an image runs on from its configuration; nil if
// that does not say. That the configuration is not there, or damaged, is no
// reason to refuse an image whose layers can be read, unless a platform is
// asked for; that it can't be had at the moment is one to try again.
func (f platforms) configPlatform(img v1.Image) (*v1.Platform, error) {
	cfg, err := img.ConfigFile()
	switch {
	case err != nil && (len(f.want) > 0 || passes(err)):
		return nil, fmt.Errorf("%w: %w", errUnknownPlatform, err)
	case err != nil || cfg.OS == "":
		return nil, nil
	}
	return cfg.Platform(), nil
}

// layers lists the layers of a manifest and checks that they are file systems.
func layers(img v1.Image, of func(v1.Descriptor) Layer) ([]Layer, error) {
	m, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	if err := isContainer(img); err != nil {
		return nil, err
	}
	switch {
	case len(m.Layers) == 0:
		return nil, errors.New("it has no layers")
	case len(m.Layers) > maxLayers:
		return nil, fmt.Errorf("it has %d layers, more than %d", len(m.Layers), maxLayers)
	}
	var out []Layer
	for _, d := range m.Layers {
		l := of(d)
		// What may not be distributed is where the manifest says.
		if len(d.URLs) > 0 && !bareType(d.MediaType).IsDistributable() {
			l.URI = d.URLs[0]
			if l.open != nil {
				if f, err := l.open(); err == nil { // it is here all the same
					l.URI = ""
					_ = f.Close()
				} else {
					l.open = nil
				}
			}
		}
		out = append(out, l)
	}
	return out, nil
}

// configDigest is the digest of an image's configuration; "" if its manifest has
// none.
func configDigest(img v1.Image) string {
	m, err := img.Manifest()
	if err != nil || m.Config.Digest.Hex == "" {
		return ""
	}
	return m.Config.Digest.String()
}

func isFileSystem(m types.MediaType) bool {
	m = bareType(m)
	return m.IsLayer() || m == "application/vnd.docker.image.rootfs.diff.tar.zstd"
}

func platformName(p *v1.Platform) string {
	if p == nil {
		return ""
	}
	return v1.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}.String()
}
