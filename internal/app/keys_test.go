package app

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"tocsin.dev/tocsin/internal/config"
	"tocsin.dev/tocsin/internal/postgres/postgrestest"
	"tocsin.dev/tocsin/internal/secrets"
	"tocsin.dev/tocsin/internal/telemetry"
	"tocsin.dev/tocsin/notifier/filter"
	"tocsin.dev/tocsin/notifier/subscription"
	"tocsin.dev/tocsin/schemas"
)

// A data directory that is lost with the key in it must not pass for a new one.
func TestLostDataDirectory(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := postgrestest.New(t)
	process := func() *App {
		c := Defaults()
		c.DataDir = t.TempDir()
		return &App{config: c, log: slog.New(slog.DiscardHandler)}
	}
	first := process()
	ring, err := first.keyring(ctx, pool)
	if err != nil {
		t.Fatal(err)
	}
	filters, err := filter.NewCompiler(filter.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	subs := func(ring *secrets.Keyring) *subscription.Store {
		st, err := subscription.New(subscription.Options{Pool: pool, Filters: filters, Keyring: ring})
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	sub, _, err := subs(ring).Create(ctx, "team", schemas.Subscription{
		Sink: "https://hooks.example.com/a", Protocol: schemas.ProtocolHTTP,
		SinkCredential: &schemas.SinkCredential{CredentialType: schemas.CredentialPlain, Identifier: "u", Secret: "p"},
	})
	if err != nil {
		t.Fatal(err)
	}

	second := process() // the directory is gone
	if _, err := second.keyring(ctx, pool); err == nil || !strings.Contains(err.Error(), ring.Primary()) || !strings.Contains(err.Error(), "secrets.keys") {
		t.Fatalf("a fresh directory: %v; want a refusal that names key %s and secrets.keys", err, ring.Primary())
	}
	if _, err := os.Stat(filepath.Join(second.config.DataDir, keyFile)); !os.IsNotExist(err) {
		t.Errorf("a key was made all the same: %v", err)
	}

	// The key is lost for good: the operator says so by setting a new one.
	third := process()
	key := make([]byte, secrets.KeySize)
	_, _ = rand.Read(key)
	third.config.Secrets.Keys = make([]config.Secret, 1)
	if err := third.config.Secrets.Keys[0].UnmarshalText([]byte(base64.StdEncoding.EncodeToString(key))); err != nil {
		t.Fatal(err)
	}
	fresh, err := third.keyring(ctx, pool)
	if err != nil {
		t.Fatal(err)
	}
	watch := &keyWatch{pool: pool, ring: fresh, log: third.log}
	health := telemetry.NewHealth()
	if err := watch.observe(prometheus.NewRegistry(), health); err != nil {
		t.Fatal(err)
	}
	health.Ready()
	ready := func() (code int, note string) {
		if err := watch.look(ctx); err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		health.ServeHTTP(w, httptest.NewRequest("GET", "/readyz", nil))
		var s struct{ Notes map[string]string }
		if err := json.Unmarshal(w.Body.Bytes(), &s); err != nil {
			t.Fatal(err)
		}
		return w.Code, s.Notes["secrets"]
	}
	if code, note := ready(); code != 200 || !strings.Contains(note, "1 subscription sealed with key "+ring.Primary()) || testutil.ToFloat64(watch.waiting) != 1 {
		t.Errorf("readiness %d, %q, metric %v; want the subscription that waits", code, note, testutil.ToFloat64(watch.waiting))
	}
	shown := func() schemas.Subscription {
		s, err := subs(fresh).Get(ctx, "team", sub.ID)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if s := shown(); s.State != schemas.StatePaused || !strings.Contains(s.Reason, ring.Primary()) || s.Config.Paused {
		t.Errorf("the subscription is %s, %q", s.State, s.Reason)
	}

	// The way back: a new signing secret, and the credential once more.
	if _, err := subs(fresh).Rotate(ctx, "team", sub.ID, subscription.Rotation{Overlap: 1e15}); err != nil {
		t.Fatal(err)
	}
	if s := shown(); s.State != schemas.StatePaused || len(s.Secrets) != 1 {
		t.Errorf("with its old credential it is %s with %d signing secrets", s.State, len(s.Secrets))
	}
	again := shown()
	if _, err := subs(fresh).Replace(ctx, "team", sub.ID, again); err == nil || !strings.Contains(err.Error(), "sinkcredential") {
		t.Errorf("a replacement without the credential's secret: %v", err)
	}
	again.SinkCredential.Secret = "p2"
	if _, err := subs(fresh).Replace(ctx, "team", sub.ID, again); err != nil {
		t.Fatal(err)
	}
	if s := shown(); s.State != schemas.StateActive || s.Reason != "" {
		t.Errorf("afterwards it is %s, %q", s.State, s.Reason)
	}
	if code, note := ready(); code != 200 || note != "" || testutil.ToFloat64(watch.waiting) != 0 {
		t.Errorf("afterwards readiness says %d, %q", code, note)
	}
}
