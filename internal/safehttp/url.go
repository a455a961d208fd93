package safehttp

import (
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// MaxURLLength is the longest URL that [Guard.CheckURL] accepts, in bytes.
const MaxURLLength = 4096

// CheckURL reads a URL that somebody configured and refuses what can never
// work or is meant to mislead: another scheme than those given (http and https
// if none are), a user name or password before the host, an address spelled as
// a number or in octal or hexadecimal, and a literal address the guard refuses.
//
// It is a hint at configuration time and asks no resolver. The decision that
// counts is made when connecting. The error is a [*URLError] or a
// [*BlockedError]; neither contains the URL.
func (g *Guard) CheckURL(raw string, schemes ...string) (*url.URL, error) {
	if len(schemes) == 0 {
		schemes = []string{"http", "https"}
	}
	if len(raw) > MaxURLLength {
		return nil, &URLError{Field: "url", Reason: "is longer than " + strconv.Itoa(MaxURLLength) + " bytes"}
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, &URLError{Field: "url", Reason: "is not a URL"}
	}
	switch {
	case !slices.Contains(schemes, u.Scheme):
		return nil, &URLError{Field: "scheme", Reason: "must be one of " + strings.Join(schemes, ", ")}
	case u.User != nil:
		return nil, &URLError{Field: "userinfo", Reason: "must not be in the URL: give credentials in their own field"}
	case u.Hostname() == "" || u.Opaque != "":
		return nil, &URLError{Field: "host", Reason: "is missing"}
	}
	if err := g.CheckHost(u.Hostname()); err != nil {
		return nil, err
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.Atoi(p); err != nil || n < 1 || n > 65535 {
			return nil, &URLError{Field: "port", Reason: "must be from 1 to 65535"}
		}
	} else if strings.HasSuffix(u.Host, ":") {
		return nil, &URLError{Field: "port", Reason: "is missing after the colon"}
	}
	return u, nil
}

// CheckHost is the part of [Guard.CheckURL] that looks at the host alone,
// without port or brackets, for brokers that are not named by a URL.
func (g *Guard) CheckHost(host string) error {
	if host == "" {
		return &URLError{Field: "host", Reason: "is missing"}
	}
	if strings.ContainsAny(host, " \t\r\n\x00/\\@#?%") && !strings.Contains(host, ":") {
		return &URLError{Field: "host", Reason: "has a character that no host name has"}
	}
	if err := checkSpelling(host); err != nil {
		return err
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return g.Check(addr)
	}
	if name := strings.TrimSuffix(strings.ToLower(host), "."); name == "localhost" || strings.HasSuffix(name, ".localhost") {
		// RFC 6761, section 6.3: always loopback.
		v4, v6 := netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()
		if err := g.Check(v4); err != nil && g.Check(v6) != nil {
			return err
		}
	}
	return nil
}

// checkSpelling refuses a host that the C library's inet_aton would read as an
// IPv4 address but that is not in the plain form of four decimal numbers: what
// it means depends on who reads it.
func checkSpelling(host string) error {
	name := strings.TrimSuffix(host, ".")
	if a, err := netip.ParseAddr(name); err == nil {
		if name != host && a.Is4() {
			return &URLError{Field: "host", Reason: "is an address with a dot after it"}
		}
		return nil
	}
	// A name whose last label is a number is no name: no top-level domain is
	// numeric (and none may be: RFC 3696, section 2).
	last := name[strings.LastIndexByte(name, '.')+1:]
	if last != "" && isNumber(last) {
		return &URLError{Field: "host", Reason: "is an unusual spelling of an IPv4 address; write it as four decimal numbers"}
	}
	return nil
}

func isNumber(s string) bool {
	if rest, ok := strings.CutPrefix(strings.ToLower(s), "0x"); ok {
		return strings.Trim(rest, "0123456789abcdef") == ""
	}
	return strings.Trim(s, "0123456789") == ""
}
