package app

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tocsin.dev/tocsin/internal/config"
	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
)

// Each address that is taken is named by its key, before anything is created.
func TestATakenAddressIsSaidFirst(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() }) // after the subtests
	for key, set := range map[string]func(*config.Config){
		"TOCSIN_LISTEN":        func(c *config.Config) { c.Listen = taken.Addr().String() },
		"TOCSIN_INTROSPECTION": func(c *config.Config) { c.Introspection = taken.Addr().String() },
		"TOCSIN_NATS_LISTEN":   func(c *config.Config) { c.NATS.Listen = taken.Addr().String() },
	} {
		t.Run(key, func(t *testing.T) {
			t.Parallel()
			c := Defaults()
			c.DataDir = t.TempDir()
			c.Listen, c.Introspection, c.NATS.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
			set(&c)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			err := New(c, v1.Version{}, slog.New(slog.DiscardHandler), nil).Run(ctx)
			if err == nil || !strings.Contains(err.Error(), key) {
				t.Errorf("error is %v, want one that names %s", err, key)
			}
			if _, err := os.Stat(filepath.Join(c.DataDir, "postgres")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a cluster was created: %v", err)
			}
		})
	}
}

func TestAnotherNATSServerNeedsNoAddress(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	c := Defaults()
	c.Listen, c.Introspection, c.NATS.Listen = "127.0.0.1:0", "127.0.0.1:0", taken.Addr().String()
	c.NATS.URL = config.NewURL("nats://nats.example.com:4222")
	l, err := New(c, v1.Version{}, slog.New(slog.DiscardHandler), nil).listen()
	if err != nil {
		t.Fatal(err)
	}
	l.api.Close()
	l.introspection.Close()
}
