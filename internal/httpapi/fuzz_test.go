package httpapi_test

import (
	"net/http/httptest"
	"net/netip"
	"testing"

	"tocsin.dev/tocsin/internal/httpapi"
)

// FuzzClientHost holds what a proxy says of its client to an address.
func FuzzClientHost(f *testing.F) {
	for _, seed := range []string{"198.51.100.7", "a, b", "[2001:db8::1]:443, 10.0.0.2", ",,,", "::ffff:10.0.0.1"} {
		f.Add(seed)
	}
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	f.Fuzz(func(t *testing.T, header string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = "10.0.0.1:1"
		r.Header["X-Forwarded-For"] = []string{header}
		if _, err := netip.ParseAddr(httpapi.ClientHost(r, trusted)); err != nil {
			t.Errorf("%q: %v", header, err)
		}
	})
}
