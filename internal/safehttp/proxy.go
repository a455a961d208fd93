package safehttp

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"
)

// defaultPorts are those of the schemes a proxy may have.
var defaultPorts = map[string]string{"http": "80", "https": "443"}

// proxied has a transport use a proxy, for what is not reached directly: hosts
// all of whose addresses are on the allow list.
//
// The proxy connects, so the guard can't decide when it does. It refuses what it
// would refuse as a literal address, and names that have a refused address
// here; a name that can't be resolved here is left to the proxy.
func (g *Guard) proxied(t *http.Transport, proxy *url.URL, connect time.Duration) {
	address := proxyAddress(proxy)
	t.Proxy = func(req *http.Request) (*url.URL, error) {
		direct, err := g.direct(req.Context(), req.URL.Hostname())
		if direct || err != nil {
			return nil, err
		}
		return proxy, nil
	}
	guarded := t.DialContext
	t.DialContext = func(ctx context.Context, network, to string) (net.Conn, error) {
		if to != address {
			return guarded(ctx, network, to)
		}
		// Somebody configured it, and no request for it gets here.
		d := &net.Dialer{Timeout: connect, Resolver: g.resolver}
		conn, err := d.DialContext(ctx, network, to)
		if err != nil {
			return nil, &unreachable{err}
		}
		return conn, nil
	}
}

func proxyAddress(proxy *url.URL) string {
	if proxy.Port() == "" {
		return net.JoinHostPort(proxy.Hostname(), defaultPorts[proxy.Scheme])
	}
	return proxy.Host
}

// Proxy has a transport use a proxy as one of [Guard.Transport] with
// [Options.Proxy] does. The transport's DialContext must be under the guard.
func (g *Guard) Proxy(t *http.Transport, proxy *url.URL) { g.proxied(t, proxy, DefaultConnectTimeout) }

// Through is [Guard.DialContext] through a proxy, which it asks to connect
// (CONNECT), but for hosts on the allow list. The proxy's own address needs no
// permission. What the guard refuses, the proxy is not asked for.
func (g *Guard) Through(proxy *url.URL) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, &URLError{Field: "host", Reason: "must be host:port"}
		}
		direct, err := g.direct(ctx, host)
		if err != nil {
			return nil, err
		}
		if direct {
			return g.DialContext(ctx, network, address)
		}
		ctx, cancel := context.WithTimeout(ctx, DefaultConnectTimeout)
		defer cancel()
		return g.connect(ctx, proxy, address)
	}
}

// unreachable is a proxy that cannot be reached: those who see it need not know
// where it is, nor who was asked for its name.
type unreachable struct{ err error }

// Error implements error.
func (u *unreachable) Error() string {
	if t, ok := errors.AsType[net.Error](u.err); ok && t.Timeout() {
		return "the proxy did not answer in time"
	}
	return "the proxy could not be reached"
}

// Timeout and Temporary make it a [net.Error], as its cause is.
func (u *unreachable) Timeout() bool {
	t, ok := errors.AsType[net.Error](u.err)
	return ok && t.Timeout()
}

// Temporary implements [net.Error].
func (u *unreachable) Temporary() bool { return false }

// connect has a proxy connect to an address.
func (g *Guard) connect(ctx context.Context, proxy *url.URL, address string) (conn net.Conn, err error) {
	d := &net.Dialer{Resolver: g.resolver}
	if conn, err = d.DialContext(ctx, "tcp", proxyAddress(proxy)); err != nil {
		return nil, &unreachable{err}
	}
	// The end of ctx ends the exchange, whatever it waits for.
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		if !stop() && err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			conn.Close()
			conn = nil
		}
	}()
	if proxy.Scheme == "https" {
		secured := tls.Client(conn, &tls.Config{MinVersion: tls.VersionTLS12, ServerName: proxy.Hostname()})
		if err := secured.HandshakeContext(ctx); err != nil {
			return conn, fmt.Errorf("proxy: %w", err)
		}
		conn = secured
	}
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: http.Header{}}
	if u := proxy.User; u != nil {
		password, _ := u.Password()
		req.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password)))
	}
	if err := req.Write(conn); err != nil {
		return conn, fmt.Errorf("proxy: %w", err)
	}
	// Byte by byte up to the end of the headers: what follows is the other side's.
	resp, err := http.ReadResponse(bufio.NewReaderSize(&oneByte{r: conn, left: maxHeaderBytes}, 16), req)
	if err != nil {
		return conn, fmt.Errorf("proxy: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return conn, fmt.Errorf("the proxy does not connect to %s: %s", address, resp.Status)
	}
	return conn, nil
}

// oneByte reads one byte at a time, and not more than left.
type oneByte struct {
	r    io.Reader
	left int
}

func (o *oneByte) Read(p []byte) (int, error) {
	if o.left <= 0 {
		return 0, &TooLargeError{Limit: maxHeaderBytes}
	}
	o.left--
	return o.r.Read(p[:min(1, len(p))])
}

// direct reports whether a host is reached without the proxy. The error says
// that it may not be reached at all.
func (g *Guard) direct(ctx context.Context, host string) (bool, error) {
	if err := g.CheckHost(host); err != nil {
		return false, err
	}
	var addrs []netip.Addr
	if a, err := netip.ParseAddr(host); err == nil {
		addrs = []netip.Addr{a}
	} else {
		r := g.resolver
		if r == nil {
			r = net.DefaultResolver
		}
		if addrs, err = r.LookupNetIP(ctx, "ip", host); err != nil {
			return false, nil // the proxy may know it
		}
	}
	direct := len(addrs) > 0
	for _, a := range addrs {
		if err := g.Check(a); err != nil {
			return false, err
		}
		direct = direct && g.allowed(a.Unmap().WithZone(""))
	}
	return direct, nil
}
