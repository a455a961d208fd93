package safehttp

import (
	"errors"
	"strings"
	"testing"
)

func TestCheckURL(t *testing.T) {
	t.Parallel()
	g := New(testKey, nil)
	const blocked = "blocked"
	for raw, field := range map[string]string{
		"https://example.com/hook":             "",
		"http://example.com:8080/hook?x=1":     "",
		"https://1.1.1.1/":                     "",
		"https://[2606:4700::1111]/":           "",
		"https://example.com./":                "",
		"https://9gag.example/":                "",
		"ftp://example.com/":                   "scheme",
		"file:///etc/passwd":                   "scheme",
		"gopher://example.com/":                "scheme",
		"//example.com/":                       "scheme",
		"example.com":                          "scheme",
		"https:example.com":                    "host",
		"https://":                             "host",
		"https:///path":                        "host",
		"https://example.com:99999/":           "port",
		"https://example.com:0/":               "port",
		"https://example.com:/":                "port",
		"https://example.com@127.0.0.1/":       "userinfo",
		"https://user:password@example.com/":   "userinfo",
		"https://@example.com/":                "userinfo",
		"https://127.0.0.1/":                   blocked,
		"https://127.0.0.1:9/":                 blocked,
		"https://[::1]/":                       blocked,
		"https://[::ffff:127.0.0.1]/":          blocked,
		"https://[::ffff:7f00:1]/":             blocked,
		"https://[64:ff9b::7f00:1]/":           blocked,
		"https://[fe80::1%25eth0]/":            blocked,
		"https://169.254.169.254/latest/":      blocked,
		"https://localhost/":                   blocked,
		"https://LOCALHOST./":                  blocked,
		"https://db.localhost:5432/":           blocked,
		"https://2130706433/":                  "host", // decimal
		"https://017700000001/":                "host", // octal
		"https://0x7f000001/":                  "host", // hexadecimal
		"https://0x7F.0.0.1/":                  "host",
		"https://0177.0.0.1/":                  "host",
		"https://127.1/":                       "host",
		"https://127.0.0.1./":                  "host",
		"https://1.1.1/":                       "host",
		"https://exa mple.com/":                "url",
		"https://%31%32%37.0.0.1/":             "url", // percent-encoded
		"https://example.com\\@127.0.0.1/":     "url",
		"https://" + strings.Repeat("a", 5000): "url",
		"ht tp://x":                            "url",
		"https://x\x00y/":                      "url",
	} {
		t.Run(raw[:min(len(raw), 40)], func(t *testing.T) {
			t.Parallel()
			u, err := g.CheckURL(raw)
			if field == "" {
				if err != nil || u == nil {
					t.Errorf("CheckURL(%q) = %v, %v; want no error", raw, u, err)
				}
				return
			}
			if field == blocked {
				if _, ok := errors.AsType[*BlockedError](err); !ok {
					t.Errorf("CheckURL(%q) = %v, want a BlockedError", raw, err)
				}
				return
			}
			ue, ok := errors.AsType[*URLError](err)
			if !ok || ue.Field != field {
				t.Errorf("CheckURL(%q) = %v, want a URLError about the %s", raw, err, field)
			}
			if err != nil && strings.Contains(err.Error(), "user:") {
				t.Errorf("the error %q repeats the credentials", err)
			}
		})
	}
}

func TestCheckURLSchemesAndAllowList(t *testing.T) {
	t.Parallel()
	g := New(testKey, loopback)
	for raw, ok := range map[string]bool{
		"amqp://127.0.0.1:5672/":  true,
		"amqps://localhost/vhost": true,
		"http://127.0.0.1/":       false,
		"amqp://10.0.0.1/":        false,
		"amqp://0x7f.1/":          false, // ambiguous even where loopback is allowed
	} {
		if _, err := g.CheckURL(raw, "amqp", "amqps"); (err == nil) != ok {
			t.Errorf("CheckURL(%q) = %v, want accepted %t", raw, err, ok)
		}
	}
	for host, ok := range map[string]bool{"broker.example": true, "127.0.0.1": true, "": false, "a b": false, "10.0.0.1": false, "user@host": false} {
		if err := g.CheckHost(host); (err == nil) != ok {
			t.Errorf("CheckHost(%q) = %v, want accepted %t", host, err, ok)
		}
	}
}
