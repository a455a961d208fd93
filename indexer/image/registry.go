package image

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"tocsin.dev/tocsin/internal/safehttp"
	"tocsin.dev/tocsin/internal/text"
)

// maxManifestBytes bounds a manifest, an index or a configuration.
const maxManifestBytes = 8 << 20

// maxReference bounds a reference, in bytes.
const maxReference = 1024

// Registry resolves references at registries. Its fields are not changed after
// first use; it is safe for concurrent use.
type Registry struct {
	// Transport makes the connections; it should be a guarded one.
	Transport http.RoundTripper
	// Keychain finds credentials; nil means the Docker configuration of the
	// process ($HOME/.docker/config.json or $DOCKER_CONFIG, credential helpers
	// included), read anew every time.
	Keychain authn.Keychain
	// Insecure lists registries ("host:port") that speak plain HTTP. Those on
	// loopback and private addresses are tried both ways anyhow.
	Insecure []string
}

// Resolve asks the registry which manifests ref stands for. Platforms are as
// "os/arch[/variant]"; none means all that run Linux.
//
// An [*Error] is for good; any other error may pass, as a registry that is
// restarting does.
func (r *Registry) Resolve(ctx context.Context, ref string, want []string) ([]Image, error) {
	filter, err := parsePlatforms(want)
	if err != nil {
		return nil, &Error{Ref: ref, Reason: err.Error()}
	}
	parsed, err := r.parse(ref)
	if err != nil {
		return nil, err
	}
	rt, err := r.transport(ctx, parsed.Context())
	if err != nil {
		return nil, explain(ref, err)
	}
	rt = bareTypes{safehttp.ClientOver(rt, safehttp.Options{MaxResponseBytes: maxManifestBytes}).Transport}
	opts := []remote.Option{remote.WithContext(ctx), remote.WithTransport(rt), remote.WithRetryPredicate(never)}
	desc, err := remote.Get(parsed, opts...)
	if err != nil {
		return nil, explain(ref, err)
	}
	var found []picked
	switch {
	case desc.MediaType.IsIndex():
		idx, err := desc.ImageIndex()
		if err != nil {
			return nil, explain(ref, err)
		}
		chosen, err := filter.pick(idx, nil, 1)
		if err == nil {
			found, err = chosen.images()
		}
		if err != nil {
			return nil, explain(ref, err)
		}
	case desc.MediaType.IsImage():
		img, err := desc.Image()
		if err != nil {
			return nil, explain(ref, err)
		}
		p, err := filter.configPlatform(img)
		if err != nil {
			return nil, explain(ref, err)
		}
		if filter.accept(p) {
			found = []picked{{img: img, desc: desc.Descriptor, platform: p}}
		}
	case desc.MediaType == types.DockerManifestSchema1, desc.MediaType == types.DockerManifestSchema1Signed:
		return nil, &Error{Ref: ref, Reason: "has the old manifest format (schema 1); push it again with a current client"}
	default:
		return nil, &Error{Ref: ref, Reason: fmt.Sprintf("is of type %q, not an image", desc.MediaType)}
	}
	if len(found) == 0 {
		return nil, &Error{Ref: ref, Reason: "has nothing for the platform " + filter.String()}
	}
	return images(found, ref, parsed)
}

func images(found []picked, ref string, parsed name.Reference) ([]Image, error) {
	repo := parsed.Context()
	out := make([]Image, 0, len(found))
	for _, p := range found {
		ls, err := layers(p.img, func(d v1.Descriptor) Layer {
			return Layer{
				Digest:    d.Digest.String(),
				MediaType: string(d.MediaType),
				Size:      d.Size,
				URI:       fmt.Sprintf("%s://%s/v2/%s/blobs/%s", repo.Scheme(), repo.RegistryStr(), repo.RepositoryStr(), d.Digest),
			}
		})
		if err != nil {
			return nil, explain(ref, err)
		}
		out = append(out, Image{
			Digest:    p.desc.Digest.String(),
			Config:    configDigest(p.img),
			Reference: parsed.Name(),
			Platform:  platformName(p.platform),
			Names:     []string{ref},
			Layers:    ls,
		})
	}
	slices.SortFunc(out, func(a, b Image) int { return strings.Compare(a.Digest, b.Digest) })
	return slices.CompactFunc(out, func(a, b Image) bool { return a.Digest == b.Digest }), nil
}

// BlobTransport logs in to the registry of ref, for reading, and returns a
// transport that adds the credentials to requests to that registry alone, and
// renews them when they expire. Errors are as of [Registry.Resolve].
func (r *Registry) BlobTransport(ctx context.Context, ref string) (http.RoundTripper, error) {
	parsed, err := r.parse(ref)
	if err != nil {
		return nil, err
	}
	rt, err := r.transport(ctx, parsed.Context())
	if err != nil {
		return nil, explain(ref, err)
	}
	return rt, nil
}

// Tags lists the tags of a repository, at most [MaxListed]. Errors are as of
// [Registry.Resolve].
func (r *Registry) Tags(ctx context.Context, repository string) ([]string, error) {
	parsed, err := r.parse(repository)
	if err != nil {
		return nil, err
	}
	repo := parsed.Context()
	rt, err := r.transport(ctx, repo)
	if err != nil {
		return nil, explain(repository, err)
	}
	rt = safehttp.ClientOver(rt, safehttp.Options{MaxResponseBytes: maxManifestBytes}).Transport
	puller, err := remote.NewPuller(remote.WithTransport(rt), remote.WithRetryPredicate(never))
	if err != nil {
		return nil, explain(repository, err)
	}
	pages, err := puller.Lister(ctx, repo)
	if err != nil {
		return nil, explain(repository, err)
	}
	var out []string
	for pages.HasNext() {
		page, err := pages.Next(ctx)
		if err != nil {
			return nil, explain(repository, err)
		}
		if out = append(out, page.Tags...); len(out) > MaxListed {
			return nil, &Error{Ref: repository, Reason: fmt.Sprintf("has more than %d tags", MaxListed)}
		}
	}
	return out, nil
}

// MaxListed is how many tags of a repository are listed.
const MaxListed = 100_000

// Check reports what is wrong with a reference, without asking its registry.
func (r *Registry) Check(ref string, want []string) error {
	if _, err := parsePlatforms(want); err != nil {
		return &Error{Ref: ref, Reason: err.Error()}
	}
	_, err := r.parse(ref)
	return err
}

func (r *Registry) parse(ref string) (name.Reference, error) {
	if len(ref) > maxReference {
		return nil, &Error{Ref: text.Clip(ref, 64), Reason: fmt.Sprintf("is longer than %d bytes", maxReference)}
	}
	if IsLocal(ref) {
		return nil, &Error{Ref: ref, Reason: "is on the disk of whoever asks; use the command line, which uploads its layers"}
	}
	parsed, err := name.ParseReference(ref)
	if err != nil {
		return nil, &Error{Ref: ref, Reason: "is not a reference to an image, as in registry.example/team/app:1.2"}
	}
	if slices.Contains(r.Insecure, parsed.Context().RegistryStr()) {
		parsed, err = name.ParseReference(ref, name.Insecure)
	}
	return parsed, err
}

func (r *Registry) transport(ctx context.Context, repo name.Repository) (http.RoundTripper, error) {
	var keys authn.Keychain = authn.DefaultKeychain
	if r.Keychain != nil {
		keys = r.Keychain
	}
	auth, err := authn.Resolve(ctx, keys, repo)
	if err != nil {
		return nil, fmt.Errorf("read registry credentials: %w", err)
	}
	return transport.NewWithContext(ctx, repo.Registry, auth, r.Transport, []string{repo.Scope(transport.PullScope)})
}

// bareTypes takes the parameters from the content types of answers, which
// manifests are told by.
type bareTypes struct{ next http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (b bareTypes) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(req)
	if err == nil && resp.Header.Get("Content-Type") != "" {
		resp.Header.Set("Content-Type", string(bareType(types.MediaType(resp.Header.Get("Content-Type")))))
	}
	return resp, err
}

// passes reports whether an error may be gone another time.
func passes(err error) bool {
	if te, ok := errors.AsType[*transport.Error](err); ok {
		return te.StatusCode == http.StatusTooManyRequests || te.StatusCode == http.StatusRequestTimeout || te.StatusCode >= 500
	}
	return isTransport(err) || errors.Is(err, context.Canceled)
}

// never leaves retries to the job, which can wait longer.
func never(error) bool { return false }

// explain turns the refusals of a registry into an [*Error] with a hint and
// leaves what may pass as it is.
func explain(ref string, err error) error {
	if blocked, ok := errors.AsType[*safehttp.BlockedError](err); ok {
		return &Error{Ref: ref, Reason: "its registry is out of bounds", Err: blocked}
	}
	if large, ok := errors.AsType[*safehttp.TooLargeError](err); ok {
		return &Error{Ref: ref, Reason: "its manifest is too large", Err: large}
	}
	if errors.Is(err, errUnknownPlatform) {
		return fmt.Errorf("image %q: %w", ref, err)
	}
	te, ok := errors.AsType[*transport.Error](err)
	if !ok {
		if isTransport(err) || errors.Is(err, context.Canceled) {
			return fmt.Errorf("image %q: %w", ref, err)
		}
		return &Error{Ref: ref, Reason: err.Error()}
	}
	switch code := te.StatusCode; {
	case code == http.StatusNotFound:
		return &Error{Ref: ref, Reason: "the registry does not have it", Err: err}
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		return &Error{Ref: ref, Reason: "the registry refused to let us read it (add credentials with docker login where the indexer runs, or check the name)", Err: err}
	case code == http.StatusTooManyRequests || code == http.StatusRequestTimeout || code >= 500:
		return fmt.Errorf("image %q: %w", ref, err)
	default:
		return &Error{Ref: ref, Reason: "the registry refused the request", Err: err}
	}
}
