// Package image turns what people call an image into manifests: digests of an
// image's manifest and of its layers, and where the layers can be read.
//
// It understands references to registries ("registry.example/team/app:1.2",
// with credentials from the Docker configuration of the process), OCI image
// layouts on disk ("oci:PATH[:TAG]") and archives of docker save
// ("docker-archive:PATH[:REFERENCE]"). A multi-platform image yields one
// manifest for each platform that runs Linux, or for those asked for.
//
// It guarantees that a manifest it returns has the digest it says. It does not
// read layers, keeps no credentials in what it returns, and does not know
// claircore, so that a client can use it without.
package image

import (
	"fmt"
	"io"
	"strings"
)

// Limits on what an index may lead to.
const (
	maxManifests = 64
	maxDepth     = 3
	maxLayers    = 1000
)

// Layer is one layer of an image.
type Layer struct {
	Digest    string // of the bytes that Open or URI yields
	MediaType string
	Size      int64  // bytes; 0 if not known before reading
	URI       string // where it is served; empty for layers that Open reads

	open func() (io.ReadCloser, error)
}

// Local reports whether Open reads the layer.
func (l Layer) Local() bool { return l.open != nil }

// Open reads a layer of a local image; the caller closes it.
func (l Layer) Open() (io.ReadCloser, error) {
	if l.open == nil {
		return nil, fmt.Errorf("layer %s is not on this machine", l.Digest)
	}
	return l.open()
}

// Image is one manifest of one platform.
type Image struct {
	// Digest is that of the manifest; of a docker archive, which has no
	// manifest, it is the image id.
	Digest string
	// Config is the digest of the image's configuration: that of one image is the
	// same however its layers are compressed.
	Config string
	// Reference is the full name in its registry; empty for local images.
	Reference string
	// Platform is "os/arch[/variant]", or empty if the image doesn't say.
	Platform string
	// Names are what people call it.
	Names  []string
	Layers []Layer
}

// Prefixes of references to images on disk.
const (
	ociPrefix           = "oci:"
	layoutArchivePrefix = "oci-archive:"
	archivePrefix       = "docker-archive:"
)

// IsLocal reports whether ref names an image on the disk of the process that
// reads it, rather than one in a registry.
func IsLocal(ref string) bool {
	return strings.HasPrefix(ref, ociPrefix) || strings.HasPrefix(ref, layoutArchivePrefix) || strings.HasPrefix(ref, archivePrefix)
}

// Error says why a reference can't be turned into manifests, and that trying
// again won't help.
type Error struct {
	Ref    string
	Reason string
	Err    error // may be nil
}

// Error implements error.
func (e *Error) Error() string {
	s := fmt.Sprintf("image %q: %s", e.Ref, e.Reason)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
