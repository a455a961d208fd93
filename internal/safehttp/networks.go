package safehttp

import "net/netip"

// azureWireServer is a public address that, on Azure, is the host's metadata
// and agent service.
var azureWireServer = netip.MustParsePrefix("168.63.129.16/32")

// kinds name the refused networks for people. The first that contains an
// address wins; what none contains is "not a public address".
var kinds = []struct {
	net  netip.Prefix
	name string
}{
	{netip.MustParsePrefix("169.254.169.254/32"), "a cloud metadata address"},
	{netip.MustParsePrefix("169.254.170.2/32"), "a cloud metadata address"},
	{netip.MustParsePrefix("100.100.100.200/32"), "a cloud metadata address"},
	{netip.MustParsePrefix("192.0.0.192/32"), "a cloud metadata address"},
	{azureWireServer, "a cloud metadata address"},
	{netip.MustParsePrefix("fd00:ec2::254/128"), "a cloud metadata address"},
	{netip.MustParsePrefix("0.0.0.0/8"), "an unspecified address"},
	{netip.MustParsePrefix("::/128"), "an unspecified address"},
	{netip.MustParsePrefix("127.0.0.0/8"), "a loopback address"},
	{netip.MustParsePrefix("::1/128"), "a loopback address"},
	{netip.MustParsePrefix("10.0.0.0/8"), "a private address"},
	{netip.MustParsePrefix("172.16.0.0/12"), "a private address"},
	{netip.MustParsePrefix("192.168.0.0/16"), "a private address"},
	{netip.MustParsePrefix("fc00::/7"), "a private address"},
	{netip.MustParsePrefix("fec0::/10"), "a private address"},
	{netip.MustParsePrefix("100.64.0.0/10"), "a carrier-grade NAT address"},
	{netip.MustParsePrefix("169.254.0.0/16"), "a link-local address"},
	{netip.MustParsePrefix("fe80::/10"), "a link-local address"},
	{netip.MustParsePrefix("224.0.0.0/4"), "a multicast address"},
	{netip.MustParsePrefix("ff00::/8"), "a multicast address"},
	{netip.MustParsePrefix("240.0.0.0/4"), "a reserved address"},
	{nat64WellKnown, "a NAT64 address"},
	{nat64Local, "a NAT64 address"},
	{netip.MustParsePrefix("2002::/16"), "a 6to4 address"},
	{netip.MustParsePrefix("2001::/32"), "a Teredo address"},
	{netip.MustParsePrefix("::/96"), "an IPv4-compatible address"},
}

var (
	nat64WellKnown = netip.MustParsePrefix("64:ff9b::/96")   // RFC 6052, section 2.1
	nat64Local     = netip.MustParsePrefix("64:ff9b:1::/48") // RFC 8215
)

func classify(addr netip.Addr) string {
	for _, k := range kinds {
		if k.net.Contains(addr) {
			return k.name
		}
	}
	return "not a public address"
}

// nat64 returns the IPv4 address that a NAT64 translator would connect to.
// Of the local-use prefix the /96 layout is assumed, the usual one.
func nat64(addr netip.Addr) (netip.Addr, bool) {
	if !nat64WellKnown.Contains(addr) && !nat64Local.Contains(addr) {
		return netip.Addr{}, false
	}
	b := addr.As16()
	return netip.AddrFrom4([4]byte(b[12:])), true
}

// isatap returns the IPv4 address inside an ISATAP interface identifier
// (RFC 5214, section 6.1): 00-00-5E-FE or 02-00-5E-FE, then the address.
func isatap(addr netip.Addr) (netip.Addr, bool) {
	if !addr.Is6() {
		return netip.Addr{}, false
	}
	b := addr.As16()
	if b[8]&^0x02 != 0 || b[9] != 0 || b[10] != 0x5e || b[11] != 0xfe {
		return netip.Addr{}, false
	}
	return netip.AddrFrom4([4]byte(b[12:])), true
}
