package telemetry

import (
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/quay/claircore/pkg/poolstats"
)

// NewRegistry returns a registry with the metrics of the Go runtime and the
// process.
func NewRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewBuildInfoCollector(),
	)
	return r
}

// ObservePool adds the metrics of a connection pool under a name.
func ObservePool(r prometheus.Registerer, name string, pool *pgxpool.Pool) error {
	return r.Register(poolstats.NewCollector(pool, name))
}

// Introspection answers what operators ask: /metrics, /healthz (the process is
// alive), /readyz (it can do its work) and /debug/pprof/. It has no login:
// whoever reaches it can see and slow down the process, so it belongs on
// loopback or an internal network.
func Introspection(r *prometheus.Registry, h *Health) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.InstrumentMetricHandler(r, promhttp.HandlerFor(r, promhttp.HandlerOpts{Registry: r})))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "ok\n") // an error means that nobody listens any more
	})
	mux.Handle("GET /readyz", h)
	mux.Handle("/debug/pprof/", knownHost(profiles()))
	return mux
}

// profiles are those of net/http/pprof but for the command line, whose arguments
// may hold a password.
func profiles() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/cmdline") {
			http.NotFound(w, r)
			return
		}
		pprof.Index(w, r)
	})
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("POST /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

// knownHost refuses requests that a web page makes in somebody's browser by a name
// of its own that resolves to this address. Who is meant to be here asks by address
// or by a name that no stranger can own: localhost, one without dots, or one of a
// domain that is never public.
func knownHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		host = strings.TrimSuffix(strings.ToLower(strings.Trim(host, "[]")), ".")
		_, err := netip.ParseAddr(host)
		internal := strings.HasSuffix(host, ".local") || strings.HasSuffix(host, ".internal") || strings.HasSuffix(host, ".svc") || strings.HasSuffix(host, ".localhost")
		if err == nil || internal || !strings.Contains(host, ".") {
			next.ServeHTTP(w, r)
			return
		}
		http.Error(w, "no host of this name here: ask by address, or by a name of the internal network", http.StatusMisdirectedRequest)
	})
}
