package httpapi

import (
	"cmp"
	"encoding/json"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus"

	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/internal/jsonlimit"
	"tocsin.dev/tocsin/internal/traceparent"
)

// Limits of the server, in bytes and durations.
const (
	// maxBody bounds an ordinary request's body.
	maxBody = 4 << 20
	// maxHeader bounds a request's headers.
	maxHeader = 64 << 10
	// defaultBodyTimeout is how long an ordinary body may take to arrive.
	defaultBodyTimeout = 30 * time.Second
	// defaultMaxUpload bounds one layer or airgap archive.
	defaultMaxUpload = 16 << 30
	// defaultPage and maxPage bound a page.
	defaultPage = 50
	maxPage     = 500
)

// Options are what the API stands on.
type Options struct {
	Services Services
	// Gate knows the tokens. It must not be nil.
	Gate Gate
	// Clair, if not nil, answers Clair's API beside this one.
	Clair http.Handler
	// Pages, if not nil, answer everything under /ui/.
	Pages http.Handler
	// Schemas, if not nil, are the JSON Schemas of events, answered under
	// /schemas/ without a token.
	Schemas fs.FS
	// MaxLayer bounds an uploaded layer and MaxImport an airgap archive, in
	// bytes; 0 means 16 GiB.
	MaxLayer, MaxImport int64
	// BodyTimeout is how long a body that is not an upload may take to arrive;
	// 0 means 30 s.
	BodyTimeout time.Duration
	// Stall is how long a client may take for the next 64 KiB of an upload, and for
	// the next 256 KiB of an answer; 0 means 30 s.
	Stall time.Duration
	// TrustedProxies are networks of proxies that are believed, by their
	// X-Forwarded-For, about who asked them.
	TrustedProxies []netip.Prefix
	Version        v1.Version
	// Registerer takes the metrics of requests; nil for none.
	Registerer prometheus.Registerer
	Log        *slog.Logger
	Now        func() time.Time // nil: time.Now
}

type server struct {
	Options
	api      huma.API
	mux      *routes
	requests *prometheus.HistogramVec
}

// New returns the whole HTTP interface: /api/v1, /openapi.json and
// /openapi.yaml, /schemas/, and Clair's paths.
func New(o Options) *Handler {
	o.MaxLayer = cmp.Or(o.MaxLayer, defaultMaxUpload)
	o.MaxImport = cmp.Or(o.MaxImport, defaultMaxUpload)
	if o.BodyTimeout == 0 {
		o.BodyTimeout = defaultBodyTimeout
	}
	o.Stall = cmp.Or(o.Stall, stall)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &server{Options: o, mux: &routes{ServeMux: http.NewServeMux()}}
	s.requests = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "tocsin_http_request_seconds", Help: "Time to answer a request, by route, method and status.",
		Buckets: []float64{.001, .005, .01, .05, .1, .5, 1, 5, 30, 120},
	}, []string{"route", "method", "status"})
	if o.Registerer != nil {
		o.Registerer.MustRegister(s.requests)
	}
	s.api = humago.New(s.mux, config())
	s.api.UseMiddleware(s.authorize)
	s.registerImages()
	s.registerJobs()
	s.registerEvents()
	s.registerSubscriptions()
	s.registerDeliveries()
	s.registerAdmin()
	s.registerUploads()
	s.registerAudit()
	s.registerIngest()
	s.registerFollows()
	describe(s.api.OpenAPI())

	if o.Schemas != nil {
		s.mux.Handle("GET /schemas/", http.StripPrefix("/schemas/", s.schemas(o.Schemas)))
	}
	if o.Clair != nil {
		for _, path := range []string{"/indexer/", "/matcher/", "/notifier/", "/openapi/", "/robots.txt"} {
			s.mux.ServeMux.Handle(path, o.Clair)
		}
		if c, ok := o.Clair.(interface{ Patterns() []string }); ok {
			s.mux.patterns = append(s.mux.patterns, c.Patterns()...)
		}
	}
	if o.Pages != nil {
		s.mux.Handle("/ui/", o.Pages)
	}
	s.mux.HandleFunc("GET /{$}", s.front)
	s.mux.HandleFunc("GET /healthz", alive)
	s.mux.HandleFunc("/", s.nowhere)
	return &Handler{traceparent.Middleware(s.outer(http.NewCrossOriginProtection().Handler(s.mux))), s.mux.patterns}
}

// Handler is the whole HTTP interface.
type Handler struct {
	http.Handler
	patterns []string
}

// Patterns are all that it answers, as [http.ServeMux] has them: who may ask for
// each is held by test to a table.
func (h *Handler) Patterns() []string { return slices.Clone(h.patterns) }

// routes is a mux that knows its patterns.
type routes struct {
	*http.ServeMux
	patterns []string
}

func (m *routes) Handle(pattern string, h http.Handler) {
	m.patterns = append(m.patterns, pattern)
	m.ServeMux.Handle(pattern, h)
}

func (m *routes) HandleFunc(pattern string, h func(http.ResponseWriter, *http.Request)) {
	m.Handle(pattern, http.HandlerFunc(h))
}

// alive answers a load balancer that the API is served here. What it stands on is
// readiness's, on the introspection address.
func alive(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	io.WriteString(w, "ok\n") // the client may have gone
}

// Serve bounds what a connection may cost. The handler sets the deadlines of
// bodies by itself, as uploads and Clair's indexing need longer ones.
func Serve(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

func config() huma.Config {
	jsonFormat := huma.Format{
		Marshal: func(w io.Writer, v any) error {
			e := json.NewEncoder(w)
			e.SetEscapeHTML(false)
			return e.Encode(v)
		},
		Unmarshal: jsonlimit.Limits{}.Unmarshal,
	}
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title:       "Tocsin",
				Version:     "v1",
				Description: "Which of your images did a vulnerability update touch, and who is told. Lists are paged by cursor; errors are RFC 9457 problems.",
			},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"token": {Type: "http", Scheme: "bearer", Description: "An API token, as `tocsin tokens create` makes it. The scopes an operation asks for are in its x-scope."},
				},
			},
		},
		OpenAPIPath:                  "/openapi",
		Formats:                      map[string]huma.Format{"application/json": jsonFormat, "json": jsonFormat},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
		Transformers:                 []huma.Transformer{redact},
	}
}

// schemas answers embedded files with the media type of JSON Schema.
func (s *server) schemas(files fs.FS) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := fs.ReadFile(files, r.URL.Path)
		if err != nil {
			writeProblem(w, http.StatusNotFound, "there is no schema of this name")
			return
		}
		w.Header().Set("Content-Type", "application/schema+json")
		w.Header().Set("Cache-Control", "max-age=3600")
		w.Write(b) // the client may have gone; there is nobody to tell
	})
}

// nowhere answers for a path that is not there, or not with this method.
func (s *server) nowhere(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete} {
		probe := &http.Request{Method: method, URL: r.URL, Host: r.Host}
		if _, pattern := s.mux.Handler(probe); pattern != "/" && pattern != "" {
			allowed = append(allowed, method)
		}
	}
	if allowed == nil {
		writeProblem(w, http.StatusNotFound, "there is nothing at "+r.URL.Path+"; /openapi.json says what there is")
		return
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	writeProblem(w, http.StatusMethodNotAllowed, r.Method+" is not possible here; "+strings.Join(allowed, ", ")+" is")
}

// front tells a person who opened the address where they are; a browser goes on
// to the page.
func (s *server) front(w http.ResponseWriter, r *http.Request) {
	if s.Pages != nil && strings.Contains(r.Header.Get("Accept"), "text/html") {
		http.Redirect(w, r, "/ui/", http.StatusSeeOther)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	io.WriteString(w, "Tocsin "+s.Version.Version+"\n\nAPI: /api/v1, described at /openapi.json\nEvent schemas: /schemas/\n")
}
