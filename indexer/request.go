package indexer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/quay/claircore"

	"tocsin.dev/tocsin/indexer/blobs"
	"tocsin.dev/tocsin/internal/safehttp"
)

// Request asks for an image to be indexed: exactly one of Image and Manifest.
type Request struct {
	// Image is a reference to resolve at its registry.
	Image string
	// Platforms are "os/arch[/variant]"; none means all that run Linux. Only
	// with Image.
	Platforms []string
	Manifest  *Manifest
	// Names are what people call the image; Labels are theirs, for filters.
	Names  []string
	Labels map[string]string
}

// Manifest is a manifest whose layers anybody can fetch, base first.
type Manifest struct {
	Digest string
	// Reference is the image reference whose registry has the layers; the
	// indexer logs in to it whenever it fetches them. Optional.
	Reference string
	// Config is the digest of the image's configuration. Optional: with it, one
	// image in two compressions is told from two images with the same files.
	Config string
	Layers []Layer
}

// Layer is one layer of a [Manifest].
type Layer struct {
	Digest string
	// URI is an http or https URL, or names a blob of the store; empty means
	// the store's blob of that digest.
	URI string
	// Headers are sent with the request for the layer. They are kept
	// encrypted, and only until the manifest is indexed.
	Headers map[string][]string
}

// InvalidError says which part of a request can't be accepted and why. Several
// may be joined; find them with [Invalid].
type InvalidError struct {
	Field  string // "manifest.layers[2].uri"
	Reason string
	// Passing says that the same request may be accepted later, with other
	// settings of the server or once a blob has been uploaded.
	Passing bool
}

// Error implements error.
func (e *InvalidError) Error() string { return e.Field + ": " + e.Reason }

// Invalid returns every [InvalidError] in err.
func Invalid(err error) []*InvalidError {
	var out []*InvalidError
	switch e := err.(type) {
	case *InvalidError:
		return []*InvalidError{e}
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			out = append(out, Invalid(err)...)
		}
	case interface{ Unwrap() error }:
		return Invalid(e.Unwrap())
	}
	return out
}

// maxProblems is how many faults of a request are listed.
const maxProblems = 10

// problems collects what is wrong with a request, up to a few.
type problems struct{ errs []error }

func (p *problems) add(field, format string, args ...any) {
	if len(p.errs) < maxProblems {
		p.errs = append(p.errs, &InvalidError{Field: field, Reason: fmt.Sprintf(format, args...)})
	}
}

// addPassing adds what other settings or an upload would mend.
func (p *problems) addPassing(field, format string, args ...any) {
	if len(p.errs) < maxProblems {
		p.errs = append(p.errs, &InvalidError{Field: field, Reason: fmt.Sprintf(format, args...), Passing: true})
	}
}

// check validates a request and brings it into the form that is stored: names
// without repetition, digests in canonical form, URIs filled in. It leaves what
// the caller's pointers and slices lead to as it is.
func (ix *Indexer) check(ctx context.Context, r *Request) error {
	var p problems
	if r.Manifest != nil {
		m := *r.Manifest
		m.Layers = slices.Clone(m.Layers)
		r.Manifest = &m
	}
	switch {
	case r.Image == "" && r.Manifest == nil:
		p.add("image", "either an image or a manifest is required")
	case r.Image != "" && r.Manifest != nil:
		p.add("image", "must be empty where a manifest is given")
	case r.Image != "":
		r.Image = strings.TrimSpace(r.Image)
		if err := ix.registry.Check(r.Image, r.Platforms); err != nil {
			p.add("image", "%s", err)
		}
	default:
		if len(r.Platforms) > 0 {
			p.add("platforms", "only apply to an image, not to a manifest")
		}
		ix.checkManifest(ctx, r.Manifest, &p)
	}
	checkNames(r, &p)
	checkLabels(r.Labels, &p)
	return errors.Join(p.errs...)
}

func checkNames(r *Request, p *problems) {
	if len(r.Names) > maxNames {
		p.add("names", "are %d, more than %d", len(r.Names), maxNames)
		return
	}
	names := make([]string, 0, len(r.Names))
	for i, n := range r.Names {
		n = strings.TrimSpace(n)
		switch {
		case n == "":
			p.add(fmt.Sprintf("names[%d]", i), "is empty")
		case len(n) > maxNameBytes:
			p.add(fmt.Sprintf("names[%d]", i), "is longer than %d bytes", maxNameBytes)
		case !isText(n):
			p.add(fmt.Sprintf("names[%d]", i), "has control characters or is not UTF-8")
		case !slices.Contains(names, n):
			names = append(names, n)
		}
	}
	r.Names = names
}

func checkLabels(labels map[string]string, p *problems) {
	if len(labels) > maxLabels {
		p.add("labels", "are %d, more than %d", len(labels), maxLabels)
		return
	}
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		switch v := labels[k]; {
		case k == "" || len(k) > maxLabelKey || !isText(k):
			p.add("labels", "have a key that is empty, longer than %d bytes, or not text", maxLabelKey)
		case len(v) > maxLabelValue || !isText(v):
			p.add("labels."+k, "is longer than %d bytes or not text", maxLabelValue)
		}
	}
}

// isText reports whether s is UTF-8 without control characters.
func isText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f })
}

func (ix *Indexer) checkManifest(ctx context.Context, m *Manifest, p *problems) {
	digest, err := canonicalDigest(m.Digest)
	if err != nil {
		p.add("manifest.hash", "%s", err)
	}
	m.Digest = digest
	if m.Config != "" {
		if m.Config, err = canonicalDigest(m.Config); err != nil {
			p.add("manifest.config", "%s", err)
		}
	}
	switch n := len(m.Layers); {
	case n == 0:
		p.add("manifest.layers", "are missing")
	case n > ix.limits.MaxLayers:
		p.addPassing("manifest.layers", "are %d, more than %d", n, ix.limits.MaxLayers)
		return
	}
	for i := range m.Layers {
		ix.checkLayer(ctx, &m.Layers[i], fmt.Sprintf("manifest.layers[%d]", i), p)
	}
}

func (ix *Indexer) checkLayer(ctx context.Context, l *Layer, field string, p *problems) {
	digest, err := canonicalDigest(l.Digest)
	if err != nil {
		p.add(field+".hash", "%s", err)
		return
	}
	l.Digest = digest
	if l.URI == "" {
		l.URI = blobs.URI(digest)
	}
	if named, ok := blobs.FromURI(l.URI); ok {
		switch _, err := ix.blobs.Stat(ctx, digest); {
		case named != digest:
			p.add(field+".uri", "names another blob than the layer's")
		case errors.Is(err, blobs.ErrNotFound):
			p.addPassing(field+".uri", "is missing, and no blob %s has been uploaded", digest)
		}
	} else {
		u, err := url.Parse(l.URI)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" {
			p.add(field+".uri", "is neither an http nor an https URL")
		} else if _, err := ix.guard.CheckURL(l.URI); err != nil {
			if blocked, ok := errors.AsType[*safehttp.BlockedError](err); ok {
				p.addPassing(field+".uri", "%s", blocked)
			} else {
				p.add(field+".uri", "its %s", err)
			}
		}
	}
	checkHeaders(l.Headers, field+".headers", p)
}

// allowedHeaders are the request headers a layer may ask for, beside those that
// start with X-: what storage and registries use. Others could change what the
// request is.
var allowedHeaders = []string{"accept", "authorization", "cookie", "user-agent"}

// Sendable returns the headers that a layer may ask for, those of h that may not
// be sent left out. It is for clients that hand over the headers of a request
// they made themselves, as clairctl does with Referer, Range and the like.
func Sendable(h map[string][]string) map[string][]string {
	out := make(map[string][]string, len(h))
	for name, values := range h {
		values = slices.DeleteFunc(slices.Clone(values), func(v string) bool { return !isText(v) })
		if sendable(name) && len(values) > 0 {
			out[name] = values
		}
	}
	return out
}

func sendable(name string) bool {
	lower := strings.ToLower(name)
	return slices.Contains(allowedHeaders, lower) || strings.HasPrefix(lower, "x-") && token(lower)
}

func checkHeaders(h map[string][]string, field string, p *problems) {
	if len(h) > maxHeaders {
		p.add(field, "are %d, more than %d", len(h), maxHeaders)
		return
	}
	size := 0
	for name, values := range h {
		lower := strings.ToLower(name)
		if !sendable(name) {
			p.add(field, "may only be Accept, Authorization, Cookie, User-Agent and X-…")
			return
		}
		size += len(name)
		for _, v := range values {
			size += len(v)
			if !isText(v) {
				p.add(field+"."+lower, "has control characters or is not UTF-8")
				return
			}
		}
	}
	if size > maxHeaderBytes {
		p.add(field, "have %d bytes, more than %d", size, maxHeaderBytes)
	}
}

// token reports whether s is a header name in lower case.
func token(s string) bool {
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-_") == ""
}

func canonicalDigest(s string) (string, error) {
	d, err := claircore.ParseDigest(s)
	if err != nil {
		return "", errors.New("is not a digest, as in sha256: and 64 hexadecimal digits")
	}
	return d.String(), nil
}
