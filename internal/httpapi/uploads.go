package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"tocsin.dev/tocsin/internal/access"
	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
)

// Blobs keeps layer blobs that clients upload: package indexer.
type Blobs interface {
	// Put stores what r yields under digest once it has been verified. Input
	// over the store's limit is ErrTooLarge; another digest a *FieldError.
	Put(ctx context.Context, digest string, r io.Reader) (v1.Blob, error)
	Stat(ctx context.Context, digest string) (v1.Blob, error)
}

// isUpload reports whether a request's body is streamed: it has no deadline as
// a whole, only one for standing still.
func isUpload(r *http.Request) bool {
	return r.Method == http.MethodPut && strings.HasPrefix(r.URL.Path, "/api/v1/layers/") ||
		r.Method == http.MethodPost && r.URL.Path == "/api/v1/updaters/import"
}

func (s *server) registerUploads() {
	digest := []*huma.Param{{Name: "digest", In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString}, Description: "Digest of the blob, as sha256:<hex>"}}
	s.upload(http.MethodPut, "/layers/{digest}", "Upload a layer's blob", publishes, digest, s.MaxLayer, func(ctx context.Context, r *http.Request, in io.Reader) (any, error) {
		if s.Services.Blobs == nil {
			return nil, absent("the blob store")
		}
		return s.Services.Blobs.Put(ctx, r.PathValue("digest"), in)
	})
	// Whoever can do this decides what is known to be wrong with every image.
	s.upload(http.MethodPost, "/updaters/import", "Load an airgap archive", administ, nil, s.MaxImport, func(ctx context.Context, _ *http.Request, in io.Reader) (any, error) {
		if s.Services.Updaters == nil {
			return nil, absent("the updater")
		}
		return s.Services.Updaters.Import(ctx, in)
	})
	type stat struct {
		Digest string `path:"digest" maxLength:"160"`
	}
	type size struct {
		Size int64 `header:"X-Blob-Size" doc:"Bytes"`
	}
	add(s, http.MethodHead, "/layers/{digest}", "Ask whether a layer's blob is there", publishes, http.StatusNoContent,
		func(ctx context.Context, in *stat) (*size, error) {
			if s.Services.Blobs == nil {
				return nil, absent("the blob store")
			}
			b, err := s.Services.Blobs.Stat(ctx, in.Digest)
			return &size{b.Size}, err
		})
}

// upload registers an operation whose body is streamed, which huma does not do.
func (s *server) upload(method, path, summary string, scopes []access.Scope, params []*huma.Param, limit int64,
	do func(context.Context, *http.Request, io.Reader) (any, error)) {
	op := s.operation(method, path, summary, scopes, http.StatusOK)
	op.Parameters = params
	op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
		"application/octet-stream": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}},
	}}
	op.Responses = map[string]*huma.Response{"200": {Description: summary}}
	s.api.OpenAPI().AddOperation(&op)
	s.mux.HandleFunc(method+" "+op.Path, func(w http.ResponseWriter, r *http.Request) {
		p, status, detail := s.who(r, scopes)
		if status != 0 {
			refuse(w, status, detail)
			return
		}
		if t := r.Header.Get("Content-Type"); t != "" && !strings.HasPrefix(t, "application/") {
			writeProblem(w, http.StatusUnsupportedMediaType, "send the bytes as application/octet-stream")
			return
		}
		if r.ContentLength > limit {
			writeProblem(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("the upload has %d bytes, the server takes at most %d", r.ContentLength, limit))
			return
		}
		in := &uploadReader{rc: http.NewResponseController(w), r: http.MaxBytesReader(w, r.Body, limit), stall: s.Stall}
		out, err := do(context.WithValue(r.Context(), principalKey{}, p), r, in)
		if err != nil {
			s.refuseUpload(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(out) // the client may have gone; there is nobody to tell
	})
}

func (s *server) refuseUpload(w http.ResponseWriter, err error) {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		err = errors.Join(ErrTooLarge, err)
	}
	if errors.Is(err, errTooSlow) {
		w.Header().Set("Connection", "close")
		writeProblem(w, http.StatusRequestTimeout, errTooSlow.Error())
		return
	}
	if _, ok := err.(huma.StatusError); !ok {
		err = s.answer(err)
	}
	model, ok := err.(*huma.ErrorModel)
	if !ok {
		writeProblem(w, http.StatusInternalServerError, "something went wrong on the server; its log says more")
		return
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(model.Status)
	json.NewEncoder(w).Encode(model) // as above
}
