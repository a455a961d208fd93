package httpapi

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"tocsin.dev/tocsin/internal/access"
)

// Gate knows who a request comes from: package internal/access.
type Gate interface {
	// Authenticate is given the client's host and the bearer token. Its errors
	// are [access.ErrUnknown], [access.ErrThrottled], and the store's.
	Authenticate(ctx context.Context, host, token string) (access.Principal, error)
}

type (
	principalKey struct{}
	grantedKey   struct{}
)

// As returns a context in which a request is the principal's, without a token:
// for those in this process who have found out by themselves who it is from.
func As(ctx context.Context, p access.Principal) context.Context {
	return context.WithValue(ctx, grantedKey{}, p)
}

// principal is who the request comes from; authorize has put it there.
func principal(ctx context.Context) access.Principal {
	p, _ := ctx.Value(principalKey{}).(access.Principal)
	return p
}

// scopeKey is where an operation's metadata says the scopes it accepts; none
// means that anyone with a token may.
const scopeKey = "scope"

// authorize lets an operation run only for a token with one of its scopes.
func (s *server) authorize(ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	scopes, _ := ctx.Operation().Metadata[scopeKey].([]access.Scope)
	p, status, detail := s.who(r, scopes)
	if status != 0 {
		refuse(w, status, detail)
		return
	}
	next(huma.WithValue(ctx, principalKey{}, p))
}

// who finds the principal of a request, or the status to refuse it with.
func (s *server) who(r *http.Request, scopes []access.Scope) (access.Principal, int, string) {
	p, granted := r.Context().Value(grantedKey{}).(access.Principal)
	if !granted {
		token, ok := bearer(r)
		if !ok {
			return access.Principal{}, http.StatusUnauthorized, "this needs an API token: send Authorization: Bearer tocsin_…"
		}
		var err error
		p, err = s.Gate.Authenticate(r.Context(), remoteHost(r), token)
		switch {
		case errors.Is(err, access.ErrUnknown):
			return p, http.StatusUnauthorized, "the token is unknown, revoked or expired"
		case errors.Is(err, access.ErrThrottled):
			return p, http.StatusTooManyRequests, "too many wrong tokens came from this address; wait a second"
		case err != nil:
			s.Log.ErrorContext(r.Context(), "token look-up failed", "error", err)
			return p, http.StatusServiceUnavailable, "the token could not be looked up; try again"
		}
	}
	if len(scopes) > 0 && !slices.ContainsFunc(scopes, p.May) {
		return p, http.StatusForbidden, "the token lacks the scope " + joinScopes(scopes)
	}
	if !visitOf(r.Context()).letIn(r, p) {
		return p, http.StatusServiceUnavailable, "the audit log can't be written, so nothing is changed; try again"
	}
	return p, 0, ""
}

func refuse(w http.ResponseWriter, status int, detail string) {
	switch status {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Bearer realm="tocsin"`)
	case http.StatusTooManyRequests:
		w.Header().Set("Retry-After", "1")
	}
	writeProblem(w, status, detail)
}

func bearer(r *http.Request) (string, bool) {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.TrimSpace(token), ok && strings.EqualFold(scheme, "Bearer")
}

func joinScopes(scopes []access.Scope) string {
	out := make([]string, len(scopes))
	for i, s := range scopes {
		out[i] = string(s)
	}
	return strings.Join(out, " or ")
}

// ClairAuth is the authenticator of Clair's paths: an API token with the scope
// that the method needs, or whatever verify accepts (a pre-shared key's JWT;
// nil for none). anonymous lets in requests without any credentials.
// Beside the status it returns whose subscriptions the client sees, empty for all.
func ClairAuth(g Gate, verify func(token string) error, anonymous bool) func(*http.Request) (string, int) {
	s := &server{Options: Options{Gate: g, Log: discard}}
	return func(r *http.Request) (string, int) {
		token, ok := bearer(r)
		if !ok && anonymous && r.Header.Get("Authorization") == "" {
			return "", 0
		}
		if ok && verify != nil && !strings.HasPrefix(token, access.Prefix) {
			if verify(token) != nil {
				return "", http.StatusUnauthorized
			}
			if !visitOf(r.Context()).letIn(r, access.Principal{Name: ClairPSK}) {
				return "", http.StatusServiceUnavailable
			}
			return "", 0
		}
		p, status, _ := s.who(r, clairScopes(r))
		return p.Sees(), status
	}
}

// ClairPSK is the actor, in the audit log, of what is done with a JWT signed with
// the pre-shared key.
const ClairPSK = "clair psk"

func clairScopes(r *http.Request) []access.Scope {
	switch {
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		return []access.Scope{access.Read, access.Publish}
	case strings.HasPrefix(r.URL.Path, "/indexer/api/v1/internal/"):
		return []access.Scope{access.Read}
	case strings.HasPrefix(r.URL.Path, "/matcher/"):
		return []access.Scope{access.Admin}
	case strings.HasPrefix(r.URL.Path, "/notifier/"): // a notification of the owner's own subscription
		return []access.Scope{access.Publish, access.Subscriptions}
	}
	return []access.Scope{access.Publish}
}
