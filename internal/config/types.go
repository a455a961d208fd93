package config

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"tocsin.dev/tocsin/internal/text"
)

// A Duration is written as Go writes them, "1h30m", and may have days: "7d".
type Duration time.Duration

// Std is d as a time.Duration.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// UnmarshalText reads a duration.
func (d *Duration) UnmarshalText(b []byte) error {
	s := strings.TrimSpace(string(b))
	if s == "0" {
		*d = 0
		return nil
	}
	if n, ok := strings.CutSuffix(s, "d"); ok {
		v, err := strconv.ParseFloat(n, 64)
		if err == nil && v > -1e5 && v < 1e5 {
			*d = Duration(v * 24 * float64(time.Hour))
			return nil
		}
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("%q is not a duration (write it like 10s, 5m, 1h30m or 7d)", s)
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes whole days as days.
func (d Duration) MarshalText() ([]byte, error) {
	const day = Duration(24 * time.Hour)
	if d != 0 && d%day == 0 {
		return fmt.Appendf(nil, "%dd", d/day), nil
	}
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return []byte(s), nil
}

// A Size is a number of bytes, written with a unit: "64MiB".
type Size int64

var units = []struct {
	name  string
	bytes Size
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"KB", 1e3}, {"B", 1}, {"", 1},
}

// UnmarshalText reads a size.
func (z *Size) UnmarshalText(b []byte) error {
	s := strings.TrimSpace(string(b))
	for _, u := range units {
		n, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(n), 64)
		if err != nil || v < 0 || v*float64(u.bytes) > 1<<62 {
			break
		}
		*z = Size(v * float64(u.bytes))
		return nil
	}
	return fmt.Errorf("%q is not a size (write it like 512KiB, 64MiB or 4GiB)", s)
}

// MarshalText writes a size in the largest unit that needs no fraction.
func (z Size) MarshalText() ([]byte, error) {
	for _, u := range units[:4] {
		if z != 0 && z%u.bytes == 0 {
			return fmt.Appendf(nil, "%d%s", z/u.bytes, u.name), nil
		}
	}
	return fmt.Appendf(nil, "%dB", int64(z)), nil
}

// A Secret does not show itself when it is printed, logged or marshalled.
type Secret struct{ value string }

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return s.value }

// Empty reports whether there is none.
func (s Secret) Empty() bool { return s.value == "" }

// String returns a placeholder, or nothing if there is no secret.
func (s Secret) String() string {
	if s.value == "" {
		return ""
	}
	return text.Redacted
}

// GoString is String.
func (s Secret) GoString() string { return strconv.Quote(s.String()) }

// LogValue is String.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText is String.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a secret; white space around it is dropped.
func (s *Secret) UnmarshalText(b []byte) error {
	s.value = strings.TrimSpace(string(b))
	return nil
}

// A URL may hold a password, and shows itself without. It may be several,
// separated by commas, or a keyword/value string as libpq knows them.
type URL struct{ value string }

// NewURL returns the URL s.
func NewURL(s string) URL { return URL{s} }

// Reveal returns the URL itself, password and all.
func (u URL) Reveal() string { return u.value }

// Empty reports whether there is none.
func (u URL) Empty() bool { return u.value == "" }

// String returns the URL with a placeholder for passwords and tokens.
func (u URL) String() string {
	if !strings.Contains(u.value, "://") {
		if strings.ContainsAny(u.value, "=@") {
			return text.Redacted
		}
		return u.value
	}
	parts := strings.Split(u.value, ",")
	for i, p := range parts {
		parts[i] = text.RedactURL(p)
	}
	return strings.Join(parts, ",")
}

// GoString is String.
func (u URL) GoString() string { return strconv.Quote(u.String()) }

// LogValue is String.
func (u URL) LogValue() slog.Value { return slog.StringValue(u.String()) }

// MarshalText is String.
func (u URL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// UnmarshalText reads a URL; white space around it is dropped.
func (u *URL) UnmarshalText(b []byte) error {
	u.value = strings.TrimSpace(string(b))
	return nil
}

// A Network is a CIDR prefix; a bare address is that address alone.
type Network struct{ netip.Prefix }

// UnmarshalText reads a network.
func (n *Network) UnmarshalText(b []byte) error {
	s := strings.TrimSpace(string(b))
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		n.Prefix = netip.PrefixFrom(a, a.BitLen())
		return nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return fmt.Errorf("%q is not a network (write it like 10.0.0.0/8 or fd00::/8)", s)
	}
	if p != p.Masked() {
		return fmt.Errorf("%q has bits set after its prefix (did you mean %s?)", s, p.Masked())
	}
	n.Prefix = p
	return nil
}

// Prefixes are the networks as netip knows them.
func Prefixes(ns []Network) []netip.Prefix {
	out := make([]netip.Prefix, len(ns))
	for i, n := range ns {
		out[i] = n.Prefix
	}
	return out
}

// Durations are the durations as package time knows them.
func Durations(ds []Duration) []time.Duration {
	out := make([]time.Duration, len(ds))
	for i, d := range ds {
		out[i] = d.Std()
	}
	return out
}
