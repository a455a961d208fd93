package safehttp

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// Options configure a client of [Guard.Client]. The zero value is usable.
type Options struct {
	// Timeout bounds the whole exchange, redirects and body included. Zero
	// means no bound but the request's context.
	Timeout time.Duration
	// ConnectTimeout bounds resolving and connecting; zero means
	// [DefaultConnectTimeout].
	ConnectTimeout time.Duration
	// HeaderTimeout bounds the wait for response headers once the request is
	// written. Zero means no bound of its own.
	HeaderTimeout time.Duration
	// Redirects is how many redirects are followed, each through the guard.
	// Zero follows none: the 3xx response is returned as it is.
	Redirects int
	// MaxResponseBytes bounds the response body, after any decompression the
	// transport does. Reading further fails with a [*TooLargeError]. Zero
	// means no bound.
	MaxResponseBytes int64
	// RawBody asks for the body as it is on the wire: no Accept-Encoding is
	// added and nothing is decompressed.
	RawBody bool
	// TLS is cloned; nil means the system's roots and defaults.
	TLS *tls.Config
	// Proxy is asked to connect, but for hosts on the guard's allow list; nil
	// means none. The guard then judges names by what they resolve to here.
	Proxy *url.URL
	// MaxConnsPerHost and MaxIdleConns are those of [http.Transport]; zero
	// means no limit and 100.
	MaxConnsPerHost int
	MaxIdleConns    int
}

// maxHeaderBytes bounds the response headers of every client.
const maxHeaderBytes = 64 << 10

// Transport returns a new transport under the guard. It ignores proxy
// environment variables and takes only the connection settings of o.
func (g *Guard) Transport(o Options) *http.Transport {
	connect := o.ConnectTimeout
	if connect <= 0 {
		connect = DefaultConnectTimeout
	}
	idle := o.MaxIdleConns
	if idle <= 0 {
		idle = 100
	}
	t := &http.Transport{
		Proxy: nil,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			d := g.Dialer()
			d.Timeout = connect
			return g.dial(ctx, d, network, address)
		},
		TLSHandshakeTimeout:    connect,
		ResponseHeaderTimeout:  o.HeaderTimeout,
		MaxResponseHeaderBytes: maxHeaderBytes,
		DisableCompression:     o.RawBody,
		MaxConnsPerHost:        o.MaxConnsPerHost,
		MaxIdleConns:           idle,
		MaxIdleConnsPerHost:    max(2, idle/10),
		IdleConnTimeout:        90 * time.Second,
		ForceAttemptHTTP2:      true,
	}
	if o.TLS != nil {
		t.TLSClientConfig = o.TLS.Clone()
	}
	if o.Proxy != nil {
		g.proxied(t, o.Proxy, connect)
	}
	return t
}

// Client returns a new client under the guard, safe for concurrent use. Close
// its idle connections when it is no longer needed.
func (g *Guard) Client(o Options) *http.Client {
	return ClientOver(g.Transport(o), o)
}

// ClientOver is [Guard.Client] for a transport that wraps one of
// [Guard.Transport], as one that logs in does. Only the limits of o apply.
func ClientOver(rt http.RoundTripper, o Options) *http.Client {
	if o.MaxResponseBytes > 0 {
		rt = &limitTransport{next: rt, limit: o.MaxResponseBytes}
	}
	return &http.Client{
		Transport:     rt,
		Timeout:       o.Timeout,
		CheckRedirect: redirectPolicy(o.Redirects),
	}
}

// redirectPolicy follows at most n redirects, never from https to http, and
// drops every header the caller set once scheme, host or port change.
func redirectPolicy(n int) func(*http.Request, []*http.Request) error {
	return func(req *http.Request, via []*http.Request) error {
		if n <= 0 {
			return http.ErrUseLastResponse
		}
		if len(via) > n {
			return &RedirectError{Reason: fmt.Sprintf("more than %d of them", n)}
		}
		prev := via[len(via)-1]
		switch {
		case req.URL.Scheme != "http" && req.URL.Scheme != "https":
			return &RedirectError{Reason: "to the scheme " + req.URL.Scheme}
		case prev.URL.Scheme == "https" && req.URL.Scheme == "http":
			return &RedirectError{Reason: "from https to http"}
		case req.URL.User != nil:
			return &RedirectError{Reason: "to a URL with credentials in it"}
		}
		first := via[0]
		if req.URL.Host != first.URL.Host || req.URL.Scheme != first.URL.Scheme {
			req.Header = http.Header{}
		}
		return nil
	}
}

type limitTransport struct {
	next  http.RoundTripper
	limit int64
}

// RoundTrip implements [http.RoundTripper].
func (t *limitTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	resp.Body = &limitBody{ReadCloser: resp.Body, left: t.limit, limit: t.limit}
	return resp, nil
}

// CloseIdleConnections lets [http.Client.CloseIdleConnections] through.
func (t *limitTransport) CloseIdleConnections() {
	if c, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

type limitBody struct {
	io.ReadCloser
	left, limit int64
}

// Read implements [io.Reader]. It asks for one byte beyond the limit, so that a
// body of exactly the limit ends in io.EOF.
func (b *limitBody) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, &TooLargeError{Limit: b.limit}
	}
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	if b.left < 0 {
		return n - 1, &TooLargeError{Limit: b.limit}
	}
	return n, err
}
