package web

import (
	"context"
	"embed"
	"io/fs"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"tocsin.dev/tocsin/internal/access"
	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
)

// Sessions keep who is logged in: package internal/access.
type Sessions interface {
	// Begin makes a session of a token, by its id, and returns its secret.
	Begin(ctx context.Context, token string) (string, error)
	// Resume finds who a secret belongs to; [access.ErrUnknown] if nobody.
	Resume(ctx context.Context, from, secret string) (access.Session, error)
	// GoesOn reports whether the session with a form key is good still.
	GoesOn(ctx context.Context, formKey string) (bool, error)
	// End ends one session, by its form key.
	End(ctx context.Context, formKey string) error
	// EndAll ends every session of a token.
	EndAll(ctx context.Context, token string) error
}

// Gate knows the tokens: package internal/access.
type Gate interface {
	Authenticate(ctx context.Context, host, token string) (access.Principal, error)
}

// Options are what the page stands on. All but Log and Now must be set.
type Options struct {
	// API answers /api/v1.
	API http.Handler
	// As makes the API take a request for the principal's.
	As func(context.Context, access.Principal) context.Context
	// Client is the host that a request comes from.
	Client   func(*http.Request) string
	Gate     Gate
	Sessions Sessions
	Version  v1.Version
	// Stopping is closed when the server wants to end: pages that stay open
	// are ended then. Nil for never.
	Stopping <-chan struct{}
	Log      *slog.Logger     // nil: none
	Now      func() time.Time // nil: time.Now
}

type site struct {
	Options
	pages map[string]*page
	live  liveness
}

//go:embed assets
var assets embed.FS

// maxForm bounds a form, in bytes.
const maxForm = 64 << 10

// A Handler answers everything under /ui/.
type Handler struct {
	http.Handler
	patterns []string
}

// Patterns are the pages, as [http.ServeMux] has them: all of them want a
// session. What is answered without one is not among them.
func (h *Handler) Patterns() []string { return slices.Clone(h.patterns) }

// New returns the page's handler.
func New(o Options) (*Handler, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &site{Options: o, live: liveness{of: map[string]int{}}}
	var err error
	if s.pages, err = parsePages(o.Now); err != nil {
		return nil, err
	}
	files, err := fs.Sub(assets, "assets")
	if err != nil {
		return nil, err
	}

	mux := http.NewServeMux()
	mux.Handle("GET /ui/assets/", http.StripPrefix("/ui/assets/", cached(http.FileServerFS(files))))
	mux.HandleFunc("GET /ui/login", s.loginPage)
	mux.HandleFunc("POST /ui/login", s.login)
	out := &Handler{Handler: headers(mux)}
	for pattern, h := range map[string]func(*visit) error{
		"GET /ui/{$}":                        (*visit).now,
		"GET /ui/images":                     (*visit).images,
		"POST /ui/images":                    (*visit).indexImage,
		"GET /ui/images/{ref}":               (*visit).image,
		"POST /ui/images/{ref}/forget":       (*visit).forgetImage,
		"GET /ui/compare":                    (*visit).compare,
		"GET /ui/vulnerabilities":            (*visit).findVulnerability,
		"GET /ui/vulnerabilities/{id}":       (*visit).vulnerability,
		"GET /ui/events":                     (*visit).events,
		"GET /ui/events/{id}":                (*visit).event,
		"GET /ui/live":                       (*visit).live,
		"GET /ui/subscriptions":              (*visit).subscriptions,
		"GET /ui/subscriptions/new":          (*visit).newSubscription,
		"POST /ui/subscriptions/new":         (*visit).makeSubscription,
		"GET /ui/subscriptions/{id}":         (*visit).subscription,
		"POST /ui/subscriptions/{id}/{what}": (*visit).changeSubscription,
		"GET /ui/deliveries/{id}":            (*visit).delivery,
		"POST /ui/deliveries/{id}/{what}":    (*visit).changeDelivery,
		"GET /ui/feeds":                      (*visit).feeds,
		"POST /ui/feeds":                     (*visit).runFeeds,
		"GET /ui/jobs":                       (*visit).jobs,
		"POST /ui/jobs/{id}/retry":           (*visit).retryJob,
		"GET /ui/tokens":                     (*visit).tokens,
		"POST /ui/tokens":                    (*visit).makeToken,
		"POST /ui/tokens/{id}/revoke":        (*visit).revokeToken,
		"GET /ui/doctor":                     (*visit).doctor,
		"GET /ui/audit":                      (*visit).audit,
		"POST /ui/logout":                    (*visit).logout,
		"/ui/":                               (*visit).nowhere,
	} {
		mux.HandleFunc(pattern, s.visited(h))
		out.patterns = append(out.patterns, pattern)
	}
	return out, nil
}

// headers are those of every answer: nothing from elsewhere, nothing in line,
// nobody's frame.
func headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

func cached(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		next.ServeHTTP(w, r)
	})
}
