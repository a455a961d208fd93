package safehttp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
)

const testKey = "delivery.allow_networks"

func TestCheck(t *testing.T) {
	t.Parallel()
	refused := map[string]string{
		"0.0.0.0":                   "an unspecified address",
		"0.1.2.3":                   "an unspecified address",
		"127.0.0.1":                 "a loopback address",
		"127.255.255.254":           "a loopback address",
		"10.1.2.3":                  "a private address",
		"172.16.0.1":                "a private address",
		"172.31.255.255":            "a private address",
		"192.168.1.1":               "a private address",
		"100.64.0.1":                "a carrier-grade NAT address",
		"100.100.100.200":           "a cloud metadata address",
		"169.254.169.254":           "a cloud metadata address",
		"169.254.1.1":               "a link-local address",
		"168.63.129.16":             "a cloud metadata address",
		"192.0.0.192":               "a cloud metadata address",
		"192.0.2.1":                 "not a public address",
		"198.18.0.1":                "not a public address",
		"224.0.0.1":                 "a multicast address",
		"255.255.255.255":           "a reserved address",
		"::":                        "an unspecified address",
		"::1":                       "a loopback address",
		"fe80::1":                   "a link-local address",
		"fe80::1%eth0":              "a link-local address",
		"fc00::1":                   "a private address",
		"fd00:ec2::254":             "a cloud metadata address",
		"ff02::1":                   "a multicast address",
		"::ffff:127.0.0.1":          "a loopback address",
		"::ffff:a9fe:a9fe":          "a cloud metadata address",
		"::127.0.0.1":               "an IPv4-compatible address",
		"64:ff9b::7f00:1":           "a NAT64 address",
		"64:ff9b::8.8.8.8":          "a NAT64 address",
		"64:ff9b:1::a9fe:a9fe":      "a NAT64 address",
		"2002:7f00:1::":             "a 6to4 address",
		"2001:0:4136:e378::1":       "a Teredo address",
		"2001:db8::1":               "not a public address",
		"2606:4700::5efe:a00:1":     "an ISATAP address of a refused IPv4 address",
		"2606:4700::200:5efe:a00:1": "an ISATAP address of a refused IPv4 address",
		"4000::1":                   "not a public address",
	}
	g := New(testKey, nil)
	for in, why := range refused {
		t.Run(in, func(t *testing.T) {
			t.Parallel()
			err := g.Check(netip.MustParseAddr(in))
			blocked, ok := errors.AsType[*BlockedError](err)
			if !ok {
				t.Fatalf("Check(%s) = %v, want a BlockedError", in, err)
			}
			if blocked.Why != why {
				t.Errorf("Check(%s) says it is %q, want %q", in, blocked.Why, why)
			}
			if !strings.Contains(err.Error(), testKey) {
				t.Errorf("%q does not name the configuration key", err)
			}
		})
	}
	for _, in := range []string{"1.1.1.1", "93.184.216.34", "172.32.0.1", "168.63.129.17", "::ffff:1.1.1.1", "2606:4700::1111", "2606:4700::5efe:101:101"} {
		if err := g.Check(netip.MustParseAddr(in)); err != nil {
			t.Errorf("Check(%s) = %v, want nil", in, err)
		}
	}
}

func TestCheckAllowList(t *testing.T) {
	t.Parallel()
	prefixes := func(s ...string) (out []netip.Prefix) {
		for _, p := range s {
			out = append(out, netip.MustParsePrefix(p))
		}
		return out
	}
	for _, tc := range []struct {
		name  string
		allow []netip.Prefix
		addr  string
		ok    bool
	}{
		{"listed", prefixes("127.0.0.0/8"), "127.0.0.1", true},
		{"listed, mapped", prefixes("127.0.0.0/8"), "::ffff:127.0.0.1", true},
		{"mapped in the list", prefixes("::ffff:10.0.0.0/104"), "10.9.9.9", true},
		{"prefix not masked", prefixes("10.1.2.3/8"), "10.9.9.9", true},
		{"another network", prefixes("127.0.0.0/8"), "10.0.0.1", false},
		{"IPv4 loopback is not IPv6's", prefixes("127.0.0.0/8"), "::1", false},
		{"single host", prefixes("192.168.7.7/32"), "192.168.7.8", false},
		{"translator with a public address inside", prefixes("64:ff9b::/96"), "64:ff9b::101:101", true},
		{"translator with loopback inside", prefixes("64:ff9b::/96"), "64:ff9b::7f00:1", false},
		{"translator with metadata inside", prefixes("64:ff9b:1::/48"), "64:ff9b:1::a9fe:a9fe", false},
		{"translator and what is inside", prefixes("64:ff9b::/96", "10.0.0.0/8"), "64:ff9b::a00:1", true},
		{"zone", prefixes("fe80::/10"), "fe80::1%eth0", true},
		{"public address behind a wider list", prefixes("0.0.0.0/0"), "169.254.169.254", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if err := New(testKey, tc.allow).Check(netip.MustParseAddr(tc.addr)); (err == nil) != tc.ok {
				t.Errorf("Check(%s) with %v = %v, want permitted %t", tc.addr, tc.allow, err, tc.ok)
			}
		})
	}
}

// A broker speaks raw TCP: the guard must hold there just as for HTTP, and
// through a net.Dialer handed to somebody else's library.
func TestRawTCP(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	closed, open := New(testKey, nil), New(testKey, loopback)

	_, err = closed.DialContext(t.Context(), "tcp", ln.Addr().String())
	if _, ok := errors.AsType[*BlockedError](err); !ok {
		t.Errorf("DialContext = %v, want a BlockedError", err)
	}
	_, err = closed.Dialer().DialContext(t.Context(), "tcp", ln.Addr().String())
	if _, ok := errors.AsType[*BlockedError](err); !ok {
		t.Errorf("Dialer().DialContext = %v, want a BlockedError", err)
	}
	conn, err := open.DialContext(t.Context(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatalf("DialContext with loopback allowed: %v", err)
	}
	conn.Close()

	for _, network := range []string{"udp", "unix"} {
		address := ln.Addr().String()
		if network == "unix" {
			address = t.TempDir() + "/socket:1"
		}
		if _, err := open.DialContext(t.Context(), network, address); err == nil || !strings.Contains(err.Error(), "only TCP") {
			t.Errorf("DialContext over %s = %v, want it refused", network, err)
		}
	}
	if _, err := open.DialContext(t.Context(), "tcp", "no-port"); err == nil {
		t.Error("DialContext without a port succeeded")
	}
}

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// What a name resolves to, and who resolves it, is not for who gave the name.
func TestErrorsKeepInternalAddressesToThemselves(t *testing.T) {
	t.Parallel()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(closed.Addr().String())
	closed.Close() // nobody listens there now
	ns := newNameServer(t, netip.MustParseAddr("127.0.0.1"))
	for name, allow := range map[string][]netip.Prefix{"refused": nil, "nobody there": loopback} {
		g := New(testKey, allow)
		g.resolver = ns.resolver()
		_, err := g.DialContext(t.Context(), "tcp", "db.corp.example:"+port)
		if err == nil || strings.Contains(err.Error(), "127.0.0.1") || !strings.Contains(err.Error(), "db.corp.example") {
			t.Errorf("%s: %v; want an error that names the host and not its address", name, err)
		}
	}
	away := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", closed.Addr().String())
	}}
	g := New(testKey, nil)
	g.resolver = away
	_, err = g.DialContext(t.Context(), "tcp", "db.corp.example:80")
	if err == nil || strings.Contains(err.Error(), closed.Addr().String()) {
		t.Errorf("no answer: %v; want an error without the resolver's address %s", err, closed.Addr())
	}
	if _, err := New(testKey, nil).DialContext(t.Context(), "tcp", "127.0.0.1:80"); err == nil || !strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("an address: %v; want an error that names it", err)
	}
}
