package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"tocsin.dev/tocsin/internal/access"
	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
)

// Tokens keeps the API tokens: package internal/access.
type Tokens interface {
	// Create makes a token; an empty owner is its name.
	Create(ctx context.Context, name, owner string, scopes []access.Scope, expires *time.Time) (access.Token, string, error)
	List(ctx context.Context) ([]access.Token, error)
	// Revoke ends one; [access.ErrNotFound] if there is none.
	Revoke(ctx context.Context, id uuid.UUID) error
}

// Stats sums up the hub. An owner that is not empty sees its own subscriptions
// alone.
type Stats interface {
	Stats(ctx context.Context, owner string) (v1.Stats, error)
}

// Doctor looks whether a deployment is as it should be.
type Doctor interface {
	Doctor(ctx context.Context) (v1.Doctor, error)
}

func (s *server) registerAdmin() {
	add(s, get, "/doctor", "Look whether the deployment is as it should be, and say what to do", administ, 0, func(ctx context.Context, _ *struct{}) (*body[v1.Doctor], error) {
		if s.Services.Doctor == nil {
			return nil, absent("the doctor")
		}
		d, err := s.Services.Doctor.Doctor(ctx)
		return &body[v1.Doctor]{d}, err
	})
	add(s, get, "/version", "What is running", nil, 0, func(context.Context, *struct{}) (*body[v1.Version], error) {
		return &body[v1.Version]{s.Version}, nil
	})
	add(s, get, "/stats", "Backlog, ages, success rates and latencies", sees, 0, func(ctx context.Context, _ *struct{}) (*body[v1.Stats], error) {
		if s.Services.Stats == nil {
			return nil, absent("the figures")
		}
		st, err := s.Services.Stats.Stats(ctx, principal(ctx).Sees())
		return &body[v1.Stats]{st}, err
	})
	add(s, get, "/tokens", "List API tokens, all on one page", administ, 0, func(ctx context.Context, _ *PageParams) (*body[v1.Page[v1.Token]], error) {
		if s.Services.Tokens == nil {
			return nil, absent("the tokens")
		}
		list, err := s.Services.Tokens.List(ctx)
		if err != nil {
			return nil, err
		}
		out := v1.Page[v1.Token]{Items: make([]v1.Token, len(list))}
		for i, t := range list {
			out.Items[i] = wireToken(t)
		}
		return &body[v1.Page[v1.Token]]{out}, nil
	})
	type createIn struct{ Body v1.TokenRequest }
	add(s, post, "/tokens", "Make an API token", administ, http.StatusCreated, func(ctx context.Context, in *createIn) (*body[v1.Token], error) {
		if s.Services.Tokens == nil {
			return nil, absent("the tokens")
		}
		scopes, err := access.ParseScopes(in.Body.Scopes)
		if err != nil {
			return nil, &FieldError{Field: "scopes", Message: err.Error()}
		}
		if e := in.Body.ExpiresAt; e != nil && !e.After(s.Now()) {
			return nil, &FieldError{Field: "expires_at", Message: "the time is past"}
		}
		t, secret, err := s.Services.Tokens.Create(ctx, in.Body.Name, in.Body.Owner, scopes, in.Body.ExpiresAt)
		if err != nil {
			return nil, err
		}
		out := wireToken(t)
		note(ctx, out.ID, map[string]any{"name": out.Name, "owner": out.Owner, "scopes": out.Scopes})
		out.Secret = secret
		return &body[v1.Token]{out}, nil
	})
	add(s, remove, "/tokens/{id}", "Revoke an API token", administ, http.StatusNoContent, func(ctx context.Context, in *IDParam) (*struct{}, error) {
		if s.Services.Tokens == nil {
			return nil, absent("the tokens")
		}
		id, err := uuid.Parse(in.ID)
		if err != nil {
			return nil, fmt.Errorf("token %q: %w", in.ID, errors.Join(ErrNotFound, err))
		}
		return nil, s.Services.Tokens.Revoke(ctx, id)
	})
}

func wireToken(t access.Token) v1.Token {
	out := v1.Token{ID: t.ID.String(), Name: t.Name, Owner: t.Owner, CreatedAt: t.CreatedAt, ExpiresAt: t.ExpiresAt, LastUsed: t.LastUsed}
	for _, s := range t.Scopes {
		out.Scopes = append(out.Scopes, string(s))
	}
	return out
}

func badQuery(name, message string) error {
	return huma.NewError(http.StatusUnprocessableEntity, "the request can't be accepted as it is",
		&huma.ErrorDetail{Location: "query." + name, Message: message})
}
