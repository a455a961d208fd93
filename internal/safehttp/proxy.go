package safehttp

import (
	"context"
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
	address := proxy.Host
	if proxy.Port() == "" {
		address = net.JoinHostPort(proxy.Hostname(), defaultPorts[proxy.Scheme])
	}
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
		return d.DialContext(ctx, network, to)
	}
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
