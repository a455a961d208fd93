package safehttp

import (
	"net/netip"
	"net/url"
	"testing"
)

// FuzzCheckURL holds the guard to refuse every spelling of an address that is not
// public.
func FuzzCheckURL(f *testing.F) {
	for _, seed := range []string{
		"https://example.com/a", "http://127.0.0.1/", "http://0x7f.1/", "http://[::ffff:127.0.0.1]/", "http://2130706433/", "http://user:pass@host/", "http://a%00b/",
		"http://[fe80::1%25eth0]/", "http://169.254.169.254/latest", "//x", "http://localhost:99999/",
	} {
		f.Add(seed)
	}
	g := New(testKey, nil)
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := g.CheckURL(raw)
		if err != nil {
			return
		}
		again, err := url.Parse(u.String())
		if err != nil || again.Host != u.Host {
			t.Fatalf("%q is let through as %q, which reads as %v, %v", raw, u, again, err)
		}
		if a, err := netip.ParseAddr(u.Hostname()); err == nil && g.Check(a) != nil {
			t.Errorf("%q is let through, and %v is refused", raw, a)
		}
	})
}
