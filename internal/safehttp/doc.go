// Package safehttp is the one guard on every outbound connection whose address
// somebody outside chose: webhooks, message brokers, image layers, registries
// and test calls.
//
// A [Guard] refuses loopback, private, link-local, carrier-grade NAT,
// multicast, reserved and cloud metadata addresses, also when they hide in an
// IPv4-mapped, NAT64, 6to4, Teredo or ISATAP IPv6 address. It decides at dial
// time on the address the kernel is about to connect to, so neither a name that
// resolves differently the second time nor an unusual spelling of an address
// gets around it. Networks on the allow list are exempt.
//
// What it guarantees: no TCP connection made through [Guard.DialContext],
// [Guard.Dialer] or a client of [Guard.Client] reaches a refused address; proxy
// environment variables have no effect; redirects are either returned as they
// are or followed through the same guard, a bounded number of times, without
// the caller's headers once the host changes.
//
// What it does not: it does not stop a permitted host from forwarding the
// request, and it does not guard the DNS queries themselves.
package safehttp
