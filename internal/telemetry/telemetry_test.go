package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	claircore "github.com/quay/claircore/toolkit/log"

	"tocsin.dev/tocsin/internal/postgres/postgrestest"
	"tocsin.dev/tocsin/internal/telemetry"
	"tocsin.dev/tocsin/internal/traceparent"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

func TestLogRedacts(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"text", "json", "auto"} {
		var out bytes.Buffer
		log, err := telemetry.NewLogger(&out, "info", format)
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse("amqp://user:hunter2@broker/")
		if err != nil {
			t.Fatal(err)
		}
		log.With("db_password", "hunter2").WithGroup("target").Info("message",
			"token", "hunter2", "Authorization", "Bearer hunter2", "url", "https://user:hunter2@host/path?x=1", "nats", "nats://hunter2@host",
			"error", errors.New(`dial "postgres://u:hunter2@db/x": refused`), "parsed", u,
			slog.Group("credentials", "client_secret", "hunter2", "user", "kept"))
		if s := out.String(); strings.Contains(s, "hunter2") || !strings.Contains(s, "kept") || !strings.Contains(s, "host/path") {
			t.Errorf("%s: %s", format, s)
		}
	}
}

func TestLogContext(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log, err := telemetry.NewLogger(&out, "warn", "json")
	if err != nil {
		t.Fatal(err)
	}
	ctx := claircore.With(t.Context(), "updater", "osv/go")
	ctx = traceparent.Into(ctx, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	log.InfoContext(ctx, "not shown")
	log.With("a", 1).WarnContext(ctx, "shown")
	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	for k, want := range map[string]any{"msg": "shown", "updater": "osv/go", "trace_id": "0af7651916cd43dd8448eb211c80319c", "a": 1.0} {
		if got[k] != want {
			t.Errorf("%s is %v, want %v", k, got[k], want)
		}
	}
}

func TestLogRefuses(t *testing.T) {
	t.Parallel()
	if _, err := telemetry.NewLogger(&bytes.Buffer{}, "loud", "json"); err == nil {
		t.Error("a level that does not exist")
	}
	if _, err := telemetry.NewLogger(&bytes.Buffer{}, "info", "xml"); err == nil {
		t.Error("a format that does not exist")
	}
}

func get(t *testing.T, h http.Handler, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "http://localhost:8089"+path, nil))
	return w.Code, w.Body.String()
}

func TestReadiness(t *testing.T) {
	t.Parallel()
	health := telemetry.NewHealth()
	h := telemetry.Introspection(telemetry.NewRegistry(), health)
	var broken error
	health.Check("database", func(context.Context) error { return broken })
	health.Check("slow", func(ctx context.Context) error {
		if broken == nil {
			return nil
		}
		<-ctx.Done()
		return context.Cause(ctx)
	})
	expect := func(code int, parts ...string) {
		t.Helper()
		got, body := get(t, h, "/readyz")
		if got != code {
			t.Errorf("status %d, want %d: %s", got, code, body)
		}
		for _, p := range parts {
			if !strings.Contains(body, p) {
				t.Errorf("no %q in %s", p, body)
			}
		}
		if got, _ := get(t, h, "/healthz"); got != http.StatusOK {
			t.Errorf("not alive: %d", got)
		}
	}
	expect(http.StatusServiceUnavailable, `"starting"`)
	health.Ready()
	expect(http.StatusOK, `"ready"`, `"database":"ok"`)
	broken = errors.New("postgres://u:hunter2@db: gone")
	expect(http.StatusServiceUnavailable, `gone`, `"slow":"no answer in time"`, `://[redacted]@db`)
	broken = nil
	expect(http.StatusOK)
	health.Stopping()
	health.Ready()
	expect(http.StatusServiceUnavailable, `"stopping"`)
}

func TestIntrospection(t *testing.T) {
	t.Parallel()
	registry := telemetry.NewRegistry()
	if err := telemetry.ObservePool(registry, "main", postgrestest.New(t)); err != nil {
		t.Fatal(err)
	}
	h := telemetry.Introspection(registry, telemetry.NewHealth())
	code, body := get(t, h, "/metrics")
	for _, want := range []string{"go_goroutines", "process_resident_memory_bytes", "pgxpool_total_conns", "go_build_info"} {
		if !strings.Contains(body, want) {
			t.Errorf("%d, no %s", code, want)
		}
	}
	if code, body := get(t, h, "/debug/pprof/"); code != http.StatusOK || !strings.Contains(body, "goroutine") {
		t.Errorf("profiles: %d", code)
	}
	if code, _ := get(t, h, "/debug/pprof/cmdline"); code != http.StatusNotFound {
		t.Errorf("the command line, which may hold a password: %d", code)
	}
	for host, want := range map[string]int{
		"127.0.0.1:8089": 200, "[::1]:8089": 200, "localhost": 200, "tocsin:8089": 200, "tocsin.monitoring.svc": 200,
		"rebound.example.com:8089": http.StatusMisdirectedRequest, "127.0.0.1.example.com": http.StatusMisdirectedRequest,
	} {
		r := httptest.NewRequest(http.MethodGet, "/debug/pprof/", nil)
		r.Host = host
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("profiles for host %s: %d, want %d", host, w.Code, want)
		}
	}
	if code, _ := get(t, h, "/nothing"); code != http.StatusNotFound {
		t.Errorf("nothing: %d", code)
	}
}

func TestProof(t *testing.T) {
	t.Parallel()
	asked := 0
	var answer error
	check := telemetry.Proof(time.Hour, func(context.Context) error { asked++; return answer })
	answer = errors.New("full")
	for range 2 {
		if err := check(t.Context()); err == nil {
			t.Fatal("a bad answer is forgotten")
		}
	}
	answer = nil
	for range 5 {
		if err := check(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if asked != 3 {
		t.Errorf("asked %d times, want 3: a good answer speaks for an hour, a bad one for nobody", asked)
	}
	release, entered := make(chan struct{}), make(chan struct{})
	slow := telemetry.Proof(0, func(context.Context) error { close(entered); <-release; return nil })
	go func() { _ = slow(context.Background()) }()
	<-entered
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("no answer in time"))
	if slow(ctx) == nil {
		t.Error("who stops waiting for the other's turn is told that all is well")
	}
	close(release)
}
