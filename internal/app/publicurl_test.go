package app

import (
	"bytes"
	"log/slog"
	"os"
	"strings"
	"testing"

	"tocsin.dev/tocsin/internal/config"
	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
)

// Links are never to an address that means "all", and a guess is warned of.
func TestPublicURL(t *testing.T) {
	t.Parallel()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, listens, configured, want string
		warned                          bool
	}{
		{"loopback", "127.0.0.1:6060", "", "http://127.0.0.1:6060", false},
		{"loopback 6", "[::1]:6060", "", "http://[::1]:6060", false},
		{"all of 4", "0.0.0.0:6060", "", "http://" + host + ":6060", true},
		{"all", "[::]:6060", "", "http://" + host + ":6060", true},
		{"one address", "192.0.2.7:80", "", "http://192.0.2.7:80", true},
		{"configured", "[::]:6060", "https://tocsin.example", "https://tocsin.example", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var logs bytes.Buffer
			o := Defaults()
			o.PublicURL = config.NewURL(c.configured)
			a := New(o, v1.Version{}, slog.New(slog.NewTextHandler(&logs, nil)), nil)
			a.addr.API = c.listens
			a.notePublicURL()
			if got := a.publicURL(); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
			if n := strings.Count(logs.String(), "level=WARN"); n != map[bool]int{true: 1}[c.warned] {
				t.Errorf("%d warnings: %s", n, logs.String())
			}
		})
	}
}
