package app

import (
	"context"
	"errors"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tocsin.dev/tocsin/internal/config"
	"tocsin.dev/tocsin/internal/httpapi"
	"tocsin.dev/tocsin/internal/netlimit"
)

// stopTimeout is how long requests under way may go on when the process stops.
const stopTimeout = 10 * time.Second

// serveHTTP is a stage that answers on l until it is told to stop, and then
// lets requests under way finish.
func serveHTTP(l *netlimit.Listener, server *http.Server) func(context.Context) error {
	return func(ctx context.Context) error {
		server.ConnState = l.Track
		failed := make(chan error, 1)
		go func() { failed <- server.Serve(l) }()
		select {
		case err := <-failed:
			return err
		case <-ctx.Done():
		}
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		err := server.Shutdown(stop)
		if errors.Is(err, context.DeadlineExceeded) {
			err = server.Close()
		}
		<-failed
		return err
	}
}

// Bounds of the introspection's connections, which has descriptors of its own: who
// looks after the process reaches it when it is short of them.
const (
	introspectionConns      = 128
	introspectionPerAddress = 32
	introspectionReserve    = 8
)

// limit bounds the connections of both listeners.
func (a *App) limit(api, introspection net.Listener) (listeners, error) {
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tocsin_http_connections_refused_total",
		Help: "Connections that were refused because there were too many in all or from their address, or closed while idle to make room.",
	}, []string{"listener", "reason"})
	count := func(listener string) func(string) {
		return func(reason string) { refused.WithLabelValues(listener, reason).Inc() }
	}
	c := a.config.HTTP
	l := listeners{
		api: netlimit.Limit(api, netlimit.Options{
			Max: min(c.MaxConnections, openFiles()/2), PerAddress: c.MaxConnectionsPerAddress, Exempt: config.Prefixes(c.TrustedProxies), Refused: count("api"),
		}),
		introspection: netlimit.Limit(introspection, netlimit.Options{
			Max: introspectionConns, PerAddress: introspectionPerAddress, Reserve: introspectionReserve, Refused: count("introspection"),
		}),
	}
	open := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tocsin_http_connections", Help: "Open connections of the API.",
	}, func() float64 { return float64(l.api.Open()) })
	return l, errors.Join(a.registry.Register(refused), a.registry.Register(open))
}

// openFiles is how many files this process may have open.
func openFiles() int {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil || r.Cur > 1<<20 {
		return 1 << 20
	}
	return max(int(r.Cur), 64)
}

// bodyTime is how long a request's body may take to arrive at the introspection,
// and answerTime how long an answer may take to be read: a profile, 30 seconds
// unless more is asked for, has to fit in.
const (
	bodyTime   = 10 * time.Second
	answerTime = 5 * time.Minute
)

// serveIntrospection is the server of metrics, health and profiles.
func (a *App) serveIntrospection(h http.Handler) *http.Server {
	return httpapi.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		_ = rc.SetWriteDeadline(time.Now().Add(answerTime)) // real connections know deadlines
		if r.ContentLength != 0 {
			_ = rc.SetReadDeadline(time.Now().Add(bodyTime))
			r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
		}
		h.ServeHTTP(w, r)
	}), a.log)
}
