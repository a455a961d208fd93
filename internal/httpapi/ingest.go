package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"tocsin.dev/tocsin/internal/access"
	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
)

// Ingest takes what registries post about images: package internal/ingest and
// the indexer.
type Ingest interface {
	// Pushed is given the message of a kind of sender. registry, if not empty,
	// is the host to take for the message's.
	Pushed(ctx context.Context, kind, registry string, body []byte) (v1.Ingested, error)
	// Signed reports whether the headers of a message hold a signature of it by
	// a secret that the configuration has for the kind.
	Signed(kind string, h http.Header, body []byte) bool
}

// maxPush bounds a message of a registry.
const maxPush = 1 << 20

// registerIngest adds the one route outside of /api/v1 that registries post to.
func (s *server) registerIngest() {
	s.mux.HandleFunc("POST /ingest/{kind}", func(w http.ResponseWriter, r *http.Request) {
		if s.Services.Ingest == nil {
			writeProblem(w, http.StatusServiceUnavailable, "this server takes no messages of registries")
			return
		}
		kind := r.PathValue("kind")
		// A sender without a token may have a signature, which is over the body.
		_, _, basic := r.BasicAuth()
		_, token := bearer(r)
		if token || basic {
			if p, ok := s.sender(w, r); ok {
				r = r.WithContext(context.WithValue(r.Context(), principalKey{}, p))
			} else {
				return
			}
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPush))
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			writeProblem(w, http.StatusRequestEntityTooLarge, "the message is over 1 MiB")
			return
		}
		if err != nil {
			writeProblem(w, http.StatusBadRequest, "the message did not come whole")
			return
		}
		if !token && !basic {
			if !s.Services.Ingest.Signed(kind, r.Header, body) {
				refuse(w, http.StatusUnauthorized, "this needs an API token (Authorization: Bearer, or as the password of Basic) or, from GitHub, a signature by ingest.github_secret")
				return
			}
			signer := access.Principal{Name: kind + " signature", Scopes: []access.Scope{access.Publish}}
			if _, status, detail := s.who(r.WithContext(As(r.Context(), signer)), publishes); status != 0 {
				refuse(w, status, detail)
				return
			}
		}
		out, err := s.Services.Ingest.Pushed(r.Context(), kind, r.URL.Query().Get("registry"), body)
		if err != nil {
			if _, ok := err.(huma.StatusError); !ok {
				err = s.answer(err)
			}
			s.refuseUpload(w, err)
			return
		}
		note(r.Context(), "", map[string]any{"images": out.Images, "deleted": out.Deleted})
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusAccepted)
		json.NewEncoder(w).Encode(out) // the client may have gone; there is nobody to tell
	})
}

// sender authenticates a token that is a bearer's or the password of HTTP basic
// authentication, which is all that some registries can send.
func (s *server) sender(w http.ResponseWriter, r *http.Request) (access.Principal, bool) {
	if _, password, ok := r.BasicAuth(); ok {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+password)
	}
	p, status, detail := s.who(r, publishes)
	if status != 0 {
		refuse(w, status, detail)
		return p, false
	}
	return p, true
}
