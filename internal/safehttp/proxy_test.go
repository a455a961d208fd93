package safehttp

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"sync/atomic"
	"testing"
)

// A proxy is asked for what is outside, not for what is on the allow list, and
// for nothing that the guard refuses.
func TestProxy(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		_, _ = io.WriteString(w, "from the proxy: "+r.URL.String())
	}))
	t.Cleanup(proxy.Close)
	inside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "directly") }))
	t.Cleanup(inside.Close)
	u, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		allow   []netip.Prefix
		url     string
		want    string
		blocked bool
	}{
		"outside":                {nil, "http://93.184.215.14/v2/", "from the proxy: http://93.184.215.14/v2/", false},
		"a name nobody has here": {nil, "http://registry.invalid/v2/", "from the proxy: http://registry.invalid/v2/", false},
		"loopback":               {nil, inside.URL, "", true},
		"the proxy itself":       {nil, proxy.URL, "", true},
		"metadata":               {nil, "http://169.254.169.254/latest/", "", true},
		"private":                {nil, "http://10.0.0.1/", "", true},
		"localhost":              {nil, "http://localhost:1/", "", true},
		"on the allow list":      {[]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, inside.URL, "directly", false},
	} {
		before := asked.Load()
		c := New("indexer.allow_networks", tc.allow).Client(Options{Proxy: u})
		resp, err := c.Get(tc.url)
		if tc.blocked {
			_, blocked := errors.AsType[*BlockedError](err)
			if !blocked || asked.Load() != before {
				t.Errorf("%s: %v, asked %d times", name, err, asked.Load()-before)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(b) != tc.want {
			t.Errorf("%s: %q, %v, want %q", name, b, err, tc.want)
		}
	}
}
