package httpapi

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// maxHops bounds how many proxies of a chain are looked at.
const maxHops = 32

// clientHost is the address that a request comes from, without a port. A proxy in
// one of the trusted networks is believed about who asked it: of the addresses in
// X-Forwarded-For, to which each proxy appends the one that it was asked by, it is
// the last that is no trusted proxy's. Others' headers are not believed.
func clientHost(r *http.Request, trusted []netip.Prefix) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	at, err := netip.ParseAddr(host)
	if err != nil || !contains(trusted, at) {
		return host
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && i >= len(hops)-maxHops; i-- {
		hop := strings.TrimSpace(hops[i])
		next, err := netip.ParseAddr(strings.Trim(hop, "[]"))
		if err != nil {
			ap, err := netip.ParseAddrPort(hop)
			if err != nil {
				break // nobody's word from here on
			}
			next = ap.Addr()
		}
		at = next.Unmap().WithZone("")
		if !contains(trusted, at) {
			break
		}
	}
	return at.String()
}

func contains(networks []netip.Prefix, a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(a) })
}

// remoteHost is [clientHost] as it was found when the request came in.
func remoteHost(r *http.Request) string {
	if v := visitOf(r.Context()); v != nil {
		return v.remote
	}
	return clientHost(r, nil)
}
