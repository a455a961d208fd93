package app

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"tocsin.dev/tocsin/internal/config"
	"tocsin.dev/tocsin/internal/problem"
)

func TestCheckSink(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		allow, sink, want string
	}{
		{"", "https://example.com/hook", ""},
		{"", "https://93.184.216.34/hook", ""},
		{"", "http://127.0.0.1:8080/", "127.0.0.1 is a loopback address"},
		{"", "http://[::1]:8080/", "::1 is a loopback address"},
		{"", "http://localhost:8080/", "127.0.0.1 is a loopback address"},
		{"", "amqp://10.1.2.3/vhost", "10.1.2.3 is a private address"},
		{"", "nats://169.254.169.254", "a cloud metadata address"},
		{"", "http://2130706433/", "the host is an unusual spelling of an IPv4 address"},
		{"127.0.0.0/8", "http://127.0.0.1:8080/", ""},
		{"127.0.0.0/8", "http://localhost:8080/", ""},
		{"127.0.0.0/8", "amqp://10.1.2.3/vhost", "10.1.2.3 is a private address"},
	} {
		var c config.Config
		if tc.allow != "" {
			c.Delivery.AllowNetworks = []config.Network{{Prefix: netip.MustParsePrefix(tc.allow)}}
		}
		err := (&App{config: c}).checkSink(tc.sink)
		if tc.want == "" {
			if err != nil {
				t.Errorf("%s with %q: %v", tc.sink, tc.allow, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s with %q: %v, want %s", tc.sink, tc.allow, err, tc.want)
			continue
		}
		f, ok := errors.AsType[problem.Field](err)
		if blocked := !strings.Contains(tc.want, "spelling"); blocked != ok ||
			ok && (!strings.Contains(f.Hint, "delivery.allow_networks") || !strings.Contains(f.Hint, "TOCSIN_DELIVERY_ALLOW_NETWORKS")) {
			t.Errorf("%s: the hint is %q", tc.sink, f.Hint)
		}
	}
}
