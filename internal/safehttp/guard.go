package safehttp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"code.dny.dev/ssrf"
)

// DefaultConnectTimeout bounds the time to resolve a name and connect.
const DefaultConnectTimeout = 10 * time.Second

// Guard decides which addresses may be connected to. It is immutable and safe
// for concurrent use.
type Guard struct {
	key      string
	allow    []netip.Prefix
	resolver *net.Resolver // nil is the system's
	guardian *ssrf.Guardian
}

// New returns a guard that refuses every address outside the public internet,
// but for those in allow. The key is the configuration key that allow came
// from, such as "delivery.allow_networks"; error messages point to it.
func New(key string, allow []netip.Prefix) *Guard {
	g := &Guard{key: key}
	for _, p := range allow {
		g.allow = append(g.allow, plain(p))
	}
	g.guardian = ssrf.New(
		ssrf.WithAnyPort(),
		ssrf.WithDeniedV4Prefixes(azureWireServer),
	)
	return g
}

// plain turns an IPv4-mapped IPv6 prefix into the IPv4 prefix it stands for.
func plain(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96).Masked()
	}
	return p.Masked()
}

// Check reports whether addr may be connected to: nil, or a [*BlockedError].
//
// An IPv4-mapped address is judged as the IPv4 address it stands for. A NAT64
// address whose prefix is on the allow list is judged by the IPv4 address
// inside, so that a translator can be permitted without opening what lies
// behind it.
func (g *Guard) Check(addr netip.Addr) error {
	addr = addr.Unmap()
	bare := addr.WithZone("")
	if inner, ok := nat64(bare); ok && g.allowed(bare) {
		return g.check(inner)
	}
	return g.check(bare)
}

func (g *Guard) check(addr netip.Addr) error {
	if g.allowed(addr) {
		return nil
	}
	if inner, ok := isatap(addr); ok {
		if err := g.check(inner); err != nil {
			return &BlockedError{Addr: addr, Why: "an ISATAP address of a refused IPv4 address", Key: g.key}
		}
	}
	if err := g.guardian.SafeAddr(addr); err != nil {
		return &BlockedError{Addr: addr, Why: classify(addr), Key: g.key}
	}
	return nil
}

func (g *Guard) allowed(addr netip.Addr) bool {
	return slices.ContainsFunc(g.allow, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// control has the signature of [net.Dialer.Control]: it sees the address after
// name resolution, immediately before connect(2).
func (g *Guard) control(network, address string, _ syscall.RawConn) error {
	if network != "tcp4" && network != "tcp6" {
		return fmt.Errorf("refused to connect over %q: only TCP is permitted", network)
	}
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("refused to connect to %q: not an address and port: %w", address, err)
	}
	return g.Check(ap.Addr())
}

// Dialer returns a new dialer under the guard, for protocols that want a
// [net.Dialer] of their own. Its Timeout and KeepAlive may be changed, its
// Control must not.
func (g *Guard) Dialer() *net.Dialer {
	return &net.Dialer{
		Timeout:  DefaultConnectTimeout,
		Resolver: g.resolver,
		Control:  g.control,
	}
}

// DialContext connects to "host:port" over TCP under the guard. A host that is
// a number in disguise ("2130706433", "0x7f.1", "0177.0.0.1") is refused before
// any resolver is asked, since resolvers disagree about what it means.
//
// The error is, or wraps, a [*BlockedError] if an address was refused, a
// [*URLError] if the host was, and is net's own otherwise.
func (g *Guard) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return g.dial(ctx, g.Dialer(), network, address)
}

func (g *Guard) dial(ctx context.Context, d *net.Dialer, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, &URLError{Field: "host", Reason: "must be host:port"}
	}
	if err := checkSpelling(host); err != nil {
		return nil, err
	}
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, discreet(err, host, address)
	}
	return conn, nil
}

// discreet is err without what a name resolved to and who resolved it: whoever
// gives a host to connect to may not be meant to learn the names of this network.
func discreet(err error, host, address string) error {
	_, notLiteral := netip.ParseAddr(host)
	if blocked, ok := errors.AsType[*BlockedError](err); ok {
		copied := *blocked
		copied.Resolved = notLiteral != nil
		return fmt.Errorf("%s: %w", address, &copied)
	}
	if lookup, ok := errors.AsType[*net.DNSError](err); ok {
		copied := *lookup
		copied.Server = ""
		if !copied.IsNotFound {
			copied.Err = "the name could not be looked up" // its text may name the server too
		}
		return &net.OpError{Op: "dial", Net: "tcp", Err: &copied}
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && notLiteral != nil {
		copied := *op
		copied.Source, copied.Addr = nil, named(address)
		return &copied
	}
	return err
}

// named is an address as somebody wrote it.
type named string

// Network implements [net.Addr].
func (named) Network() string { return "tcp" }

// String implements [net.Addr].
func (n named) String() string { return string(n) }
