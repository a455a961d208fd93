package app

import (
	"bytes"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"tocsin.dev/tocsin/internal/postgres/postgrestest"
	"tocsin.dev/tocsin/internal/telemetry"
)

func TestAWrongClockIsSaid(t *testing.T) {
	t.Parallel()
	var logged bytes.Buffer
	ahead := 100 * 24 * time.Hour
	c := &clockWatch{pool: postgrestest.New(t), log: slog.New(slog.NewTextHandler(&logged, nil)), now: func() time.Time { return time.Now().Add(ahead) }}
	health := telemetry.NewHealth()
	if err := c.observe(prometheus.NewRegistry(), health); err != nil {
		t.Fatal(err)
	}
	health.Ready()
	ready := func() string {
		if err := c.look(t.Context()); err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		health.ServeHTTP(w, httptest.NewRequest("GET", "/readyz", nil))
		return w.Body.String()
	}
	for range 2 {
		if got := ready(); !strings.Contains(got, "2400h0m") || !strings.Contains(got, "ahead of the database's") {
			t.Errorf("a hundred days ahead: %s", got)
		}
	}
	if skew := testutil.ToFloat64(c.skew); skew < 8.6e6 || skew > 8.7e6 || strings.Count(logged.String(), "are apart") != 1 {
		t.Errorf("the metric is %v, logged %s", skew, logged.String())
	}
	ahead = 0
	if got := ready(); strings.Contains(got, "clock") || !strings.Contains(logged.String(), "agree again") {
		t.Errorf("set right: %s, logged %s", got, logged.String())
	}
}
