package app

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"tocsin.dev/tocsin/internal/config"
	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/schemas"
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

// TestOwnIntakeIsRefused: events delivered to tocsin.manifests of the server's
// own NATS would be rejected messages, and so events again.
func TestOwnIntakeIsRefused(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		listen, url, sink, subject string
		refused                    bool
	}{
		{"127.0.0.1:4222", "", "nats://127.0.0.1:4222", "tocsin.manifests", true},
		{"127.0.0.1:4222", "", "nats://localhost", "tocsin.manifests", true},
		{"0.0.0.0:4222", "", "nats://127.0.0.1", "tocsin.events.{type}", true},
		{"127.0.0.1:4222", "", "nats://127.0.0.1:4222", "tocsin.{updater}", true},
		{"127.0.0.1:4222", "", "nats://127.0.0.1:4222", "{severity}.jobs.index", true},
		{"127.0.0.1:4222", "", "nats://127.0.0.1:4222", "tocsin.team", false},
		{"127.0.0.1:4222", "", "nats://127.0.0.1:4222", "alerts.{severity}", false},
		{"127.0.0.1:4222", "", "nats://127.0.0.1:4333", "tocsin.manifests", false},
		{"127.0.0.1:4222", "", "nats://mq.example.com", "tocsin.manifests", false},
		{"", "nats://a.example.com,nats://u:p@B.example.com:4333", "tls://b.example.com:4333", "tocsin.updates", true},
		{"", "nats://a.example.com", "nats://127.0.0.1", "tocsin.updates", false},
	} {
		var c config.Config
		c.NATS.Listen = tc.listen
		if tc.url != "" {
			c.NATS.URL = config.NewURL(tc.url)
		}
		spec := schemas.Subscription{Sink: tc.sink, Protocol: "NATS", ProtocolSettings: schemas.ProtocolSettings{Subject: tc.subject}}
		if got := len((&App{config: c}).ownIntake(spec)) > 0; got != tc.refused {
			t.Errorf("%+v: refused %t", tc, got)
		}
		spec.Sink, spec.ProtocolSettings.Failover = "nats://elsewhere.example.com", []string{tc.sink}
		if got := len((&App{config: c}).ownIntake(spec)) > 0; got != tc.refused {
			t.Errorf("%+v as failover: refused %t", tc, got)
		}
	}
}
