package clair

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"sync/atomic"
	"time"
)

// Limits on what clients send.
const (
	// maxManifest bounds the body of an index request, in bytes.
	maxManifest = 4 << 20
	// maxVulnerabilities bounds the body of an affected-manifest request.
	maxVulnerabilities = 64 << 20
	// maxPage bounds the page size of notifications.
	maxPage = 10_000
	// defaultPage is Clair's.
	defaultPage = 500
)

// Options are what the API stands on. A nil service answers 404, as Clair does
// for a service that its mode leaves out.
type Options struct {
	Indexer       Indexer
	Matcher       Matcher
	Notifications Notifications
	// Authenticate is asked before everything but /robots.txt; nil lets
	// everyone in.
	Authenticate Authenticator
	// IndexConcurrency bounds how many index requests are worked on at once, those
	// that wait for their job not counted; 0 means four a processor, a negative
	// number no bound.
	IndexConcurrency int
	// CacheAge is the max-age that reports are answered with: the time between
	// updates.
	CacheAge time.Duration
	Log      *slog.Logger
}

type server struct {
	Options
	limiter *limiter
	loaded  atomic.Bool // a feed has been loaded, which no update takes back

	patterns []string // of route
}

// New returns the handler of Clair's API: /indexer/, /matcher/, /notifier/,
// /openapi/v1 and /robots.txt.
func New(o Options) *Handler {
	s := &server{Options: o, limiter: newLimiter(o.IndexConcurrency)}
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}

	api := http.NewServeMux()
	if o.Indexer != nil {
		s.route(api, "/indexer/api/v1/index_report", methods{http.MethodPost: s.index, http.MethodDelete: s.deleteReports})
		s.route(api, "/indexer/api/v1/index_report/{digest}", methods{http.MethodGet: s.indexReport, http.MethodDelete: s.deleteReport})
		s.route(api, "/indexer/api/v1/index_state", methods{http.MethodGet: s.indexState})
		s.route(api, "/indexer/api/v1/internal/affected_manifest/{$}", methods{http.MethodPost: s.affected})
	}
	if o.Matcher != nil && o.Indexer != nil {
		s.route(api, "/matcher/api/v1/vulnerability_report/{digest}", methods{http.MethodGet: s.vulnerabilityReport})
	}
	if o.Matcher != nil {
		s.route(api, "/matcher/api/v1/internal/update_operation", methods{http.MethodGet: s.updateOperations})
		s.route(api, "/matcher/api/v1/internal/update_operation/{ref}", methods{http.MethodDelete: s.deleteUpdateOperation})
		s.route(api, "/matcher/api/v1/internal/update_diff", methods{http.MethodGet: s.updateDiff})
	}
	if o.Notifications != nil {
		s.route(api, "/notifier/api/v1/notification/{id}", methods{http.MethodGet: s.notification, http.MethodDelete: s.deleteNotification})
	}
	s.route(api, "/openapi/v1", methods{http.MethodGet: s.openAPI})
	api.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, http.StatusNotFound, errors.New("no such path"))
	})

	root := http.NewServeMux()
	root.HandleFunc("/robots.txt", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Write([]byte("User-agent: *\nDisallow: /\n"))
	})
	root.Handle("/", s.authenticated(api))
	return &Handler{root, append(s.patterns, "GET /robots.txt")}
}

// Handler is Clair's API.
type Handler struct {
	http.Handler
	patterns []string
}

// Patterns are the methods and paths that it answers, as [http.ServeMux] has them.
func (h *Handler) Patterns() []string { return slices.Clone(h.patterns) }

// ownerKey is where a request's context has what the [Authenticator] returned.
type ownerKey struct{}

type methods map[string]http.HandlerFunc

func (s *server) route(mux *http.ServeMux, path string, m methods) {
	for method := range m {
		s.patterns = append(s.patterns, method+" "+path)
	}
	mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		method := r.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		h, ok := m[method]
		if !ok {
			fail(w, http.StatusMethodNotAllowed, errors.New("method not allowed"))
			return
		}
		h(w, r)
	})
}

func (s *server) authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.Authenticate != nil {
			owner, status := s.Authenticate(r)
			if status != 0 {
				w.WriteHeader(status) // Clair's has no body
				return
			}
			r = r.WithContext(context.WithValue(r.Context(), ownerKey{}, owner))
		}
		next.ServeHTTP(w, r)
	})
}

// broke answers for an error that is not the client's, and notes it.
func (s *server) broke(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil && errors.Is(err, context.Canceled) {
		w.WriteHeader(499) // the client has gone
		return
	}
	s.Log.ErrorContext(r.Context(), "clair api request failed", "path", r.URL.Path, "error", err)
	// The reasons of an index request are its client's to know: it handed the
	// layers in. Others speak of this server's insides.
	if _, about := errors.AsType[*indexError](err); !about {
		err = errors.New("something went wrong on the server; its log says more")
	}
	fail(w, http.StatusInternalServerError, err)
}
