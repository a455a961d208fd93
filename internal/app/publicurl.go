package app

import (
	"net"
	"net/netip"
	"os"
)

// publicURL is where others reach this server: as it is configured, else the
// address of the API. One that listens on all addresses is reached by the
// machine's name.
func (a *App) publicURL() string {
	if u := a.config.PublicURL.Reveal(); u != "" {
		return u
	}
	if addr, err := netip.ParseAddrPort(a.addr.API); err == nil && addr.Addr().IsUnspecified() {
		_, port, _ := net.SplitHostPort(a.addr.API)
		name, err := os.Hostname()
		if err != nil || name == "" {
			name = "localhost"
		}
		return "http://" + net.JoinHostPort(name, port)
	}
	return "http://" + a.addr.API
}

// notePublicURL warns that the links in events are a guess: the API can be reached
// from elsewhere, and public_url is not configured.
func (a *App) notePublicURL() {
	addr, err := netip.ParseAddrPort(a.addr.API)
	if err != nil || addr.Addr().Unmap().IsLoopback() || a.config.PublicURL.Reveal() != "" {
		return
	}
	a.log.Warn("the API listens beyond this machine, but public_url is not set: links in events are guessed (set public_url or TOCSIN_PUBLIC_URL)",
		"listen", a.addr.API, "links", a.publicURL())
}
