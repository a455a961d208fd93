package httpapi

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
)

// Images is who knows the images: package indexer.
type Images interface {
	// Submit queues the work for one request, and names the manifests it stands
	// for. Repeating it costs nothing.
	Submit(ctx context.Context, r v1.ImageRequest) ([]v1.Submitted, error)
	List(ctx context.Context, q v1.ImageQuery) (v1.Page[v1.Image], error)
	// Get finds an image by digest or by name; of several platforms, the first.
	Get(ctx context.Context, ref string) (v1.Image, error)
	// Delete forgets the image with a digest, or all that a name stands for.
	Delete(ctx context.Context, ref string) error
}

// Reports answers what is wrong now, and what changed: package matcher.
type Reports interface {
	// Report is the vulnerability report of an image, by digest or name.
	Report(ctx context.Context, ref string) (v1.Report, error)
	// Affected lists the images that have the vulnerability (by id or alias) now.
	Affected(ctx context.Context, id string, p v1.Paging) (v1.Page[v1.AffectedImage], error)
	// Diff lists what changed for which image from one update operation to
	// another of the same updater.
	Diff(ctx context.Context, prev, cur string, p v1.Paging) (v1.Page[v1.ImageDiff], error)
}

// ImageParam names an image in a path. It and the other parts of inputs that
// are embedded are exported because huma sees no others.
type ImageParam struct {
	Ref string `path:"ref" doc:"Digest, or a name with its slashes escaped as %2F" maxLength:"1024"`
}

func (s *server) registerImages() {
	type submitIn struct{ Body v1.ImageRequest }
	type accepted = body[v1.Page[v1.Submitted]]
	submit := func(ctx context.Context, in *submitIn) (*accepted, error) {
		if s.Services.Images == nil {
			return nil, absent("the indexer")
		}
		if (in.Body.Image == "") == (in.Body.Manifest == nil) {
			return nil, &FieldError{Field: "image", Message: "give either image or manifest"}
		}
		list, err := s.Services.Images.Submit(ctx, in.Body)
		digests := make([]string, len(list))
		for i, l := range list {
			digests[i] = l.Digest
		}
		object := in.Body.Image
		if in.Body.Manifest != nil {
			object = in.Body.Manifest.Hash
		}
		note(ctx, object, map[string]any{"digests": digests, "names": in.Body.Names})
		return &accepted{v1.Page[v1.Submitted]{Items: list}}, registryError(err)
	}
	add(s, post, "/images", "Have an image indexed", publishes, http.StatusAccepted, submit)
	add(s, post, "/manifests", "Have an image indexed (the same as POST /images)", publishes, http.StatusAccepted, submit)

	type listIn struct {
		PageParams
		Ref   string `query:"ref" doc:"Only what this name stands for now, one image a platform, or the image with this digest; 404 if there is none" maxLength:"1024"`
		Name  string `query:"name" doc:"Shell pattern over names; * also matches slashes" maxLength:"1024"`
		State string `query:"state" enum:"pending,indexed,failed,deleted" doc:"Only images in this state"`
	}
	list := func(ctx context.Context, in *listIn) (*body[v1.Page[v1.Image]], error) {
		if s.Services.Images == nil {
			return nil, absent("the indexer")
		}
		p, err := s.Services.Images.List(ctx, v1.ImageQuery{Paging: in.page(), Ref: in.Ref, Name: in.Name, State: in.State})
		return &body[v1.Page[v1.Image]]{p}, err
	}
	add(s, get, "/images", "List images", looks, 0, list)
	add(s, get, "/manifests", "List images (the same as GET /images)", looks, 0, list)

	getImage := func(ctx context.Context, in *ImageParam) (*body[v1.Image], error) {
		if s.Services.Images == nil {
			return nil, absent("the indexer")
		}
		i, err := s.Services.Images.Get(ctx, in.Ref)
		return &body[v1.Image]{i}, err
	}
	add(s, get, "/images/{ref}", "One image", looks, 0, getImage)
	add(s, get, "/manifests/{ref}", "One image (the same as GET /images/{ref})", looks, 0, getImage)

	deleteImage := func(ctx context.Context, in *ImageParam) (*struct{}, error) {
		if s.Services.Images == nil {
			return nil, absent("the indexer")
		}
		return nil, s.Services.Images.Delete(ctx, in.Ref)
	}
	add(s, remove, "/images/{ref}", "Forget an image, or all that a name stands for", publishes, http.StatusNoContent, deleteImage)
	add(s, remove, "/manifests/{ref}", "Forget an image (the same as DELETE /images/{ref})", publishes, http.StatusNoContent, deleteImage)

	report := func(ctx context.Context, in *ImageParam) (*body[v1.Report], error) {
		if s.Services.Reports == nil {
			return nil, absent("the matcher")
		}
		r, err := s.Services.Reports.Report(ctx, in.Ref)
		return &body[v1.Report]{r}, err
	}
	add(s, get, "/images/{ref}/report", "What is known to be wrong with an image", looks, 0, report)
	add(s, get, "/manifests/{ref}/report", "What is known to be wrong with an image (the same as under /images)", looks, 0, report)

	type vulnIn struct {
		PageParams
		ID string `path:"id" doc:"Id or alias of a vulnerability" maxLength:"256"`
	}
	add(s, get, "/vulnerabilities/{id}/manifests", "Images that have a vulnerability now", reads, 0,
		func(ctx context.Context, in *vulnIn) (*body[v1.Page[v1.AffectedImage]], error) {
			if s.Services.Reports == nil {
				return nil, absent("the matcher")
			}
			p, err := s.Services.Reports.Affected(ctx, in.ID, in.page())
			return &body[v1.Page[v1.AffectedImage]]{p}, err
		})

	type diffIn struct {
		PageParams
		Prev string `query:"prev" required:"true" doc:"Ref of the earlier update operation" format:"uuid"`
		Cur  string `query:"cur" required:"true" doc:"Ref of the later update operation" format:"uuid"`
	}
	add(s, get, "/diff", "What changed for which image between two update operations of one updater", reads, 0,
		func(ctx context.Context, in *diffIn) (*body[v1.Page[v1.ImageDiff]], error) {
			if s.Services.Reports == nil {
				return nil, absent("the matcher")
			}
			p, err := s.Services.Reports.Diff(ctx, in.Prev, in.Cur, in.page())
			return &body[v1.Page[v1.ImageDiff]]{p}, err
		})
}

// registryError says what a registry has to do with an error: it does not
// answer.
func registryError(err error) error {
	_, unreachable := errors.AsType[*url.Error](err)
	_, unwilling := errors.AsType[*transport.Error](err)
	if unreachable || unwilling {
		return huma.NewError(http.StatusBadGateway, "the registry does not answer as it should: "+err.Error())
	}
	return err
}
