package config_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"tocsin.dev/tocsin/internal/app"
	"tocsin.dev/tocsin/internal/config"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tocsin.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t *testing.T, text string, environ ...string) config.Config {
	t.Helper()
	c, warnings, err := config.Load(app.Defaults(), write(t, text), environ)
	if err != nil || len(warnings) > 0 {
		t.Fatalf("%v, warnings %v", err, warnings)
	}
	return c
}

var same = cmp.Options{cmp.AllowUnexported(config.Secret{}, config.URL{}), cmpopts.EquateComparable(config.Network{}), cmpopts.EquateEmpty()}

func TestDefaultIsValid(t *testing.T) {
	t.Parallel()
	c, warnings, err := config.Load(app.Defaults(), "", nil)
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	if d := cmp.Diff(app.Defaults(), load(t, "# nothing\n"), same); d != "" {
		t.Errorf("an empty file changes something:\n%s", d)
	}
}

func TestFileOverDefaults(t *testing.T) {
	t.Parallel()
	c := load(t, `
listen: 127.0.0.1:0
database: {url: "postgres://u:p@db/tocsin"}
roles: [indexer, matcher]
updaters:
  sets: [osv, debian]
  config: {osv: {url: "http://127.0.0.1:9100/"}}
  schedules: {default: "@every 6h", osv: "@every 1h"}
delivery:
  allow_networks: [127.0.0.0/8, "fd00::/8", 10.1.2.3]
  timeout: 1m30s
  schedule: [1s, 2d]
indexer: {max_layer_size: 1.5GiB, concurrency: 7}
`)
	want := app.Defaults()
	want.Listen = "127.0.0.1:0"
	want.Database.URL = config.NewURL("postgres://u:p@db/tocsin")
	want.Roles = []string{"indexer", "matcher"}
	want.Updaters.Sets = []string{"osv", "debian"}
	want.Updaters.Config = config.Foreign{"osv": map[string]any{"url": "http://127.0.0.1:9100/"}}
	want.Updaters.Schedules = map[string]string{"default": "@every 6h", "osv": "@every 1h"}
	want.Delivery.AllowNetworks = c.Delivery.AllowNetworks
	want.Delivery.Timeout = config.Duration(90 * time.Second)
	want.Delivery.Schedule = []config.Duration{config.Duration(time.Second), config.Duration(48 * time.Hour)}
	want.Indexer.MaxLayerSize = 3 << 29
	want.Indexer.Concurrency = 7
	if d := cmp.Diff(want, c, same); d != "" {
		t.Error(d)
	}
	if got := fmt.Sprint(config.Prefixes(c.Delivery.AllowNetworks)); got != "[127.0.0.0/8 fd00::/8 10.1.2.3/32]" {
		t.Errorf("networks %s", got)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

func TestFileErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, want string }{
		"unknown key":        {"listen: a:1\nlisten_on: b:2\n", "[2:1]"},
		"unknown nested key": {"delivery:\n  allow_network: [10.0.0.0/8]\n", "[2:3]"},
		"same key twice":     {"listen: a:1\nlisten: b:2\n", "[2:1]"},
		"wrong kind":         {"indexer:\n  concurrency: many\n", "[2:16]"},
		"no unit":            {"delivery:\n  timeout: 10\n", "not a duration"},
		"no size":            {"indexer: {max_layer_size: big}\n", "not a size"},
		"no network":         {"delivery: {allow_networks: [localhost]}\n", "not a network"},
		"host bits":          {"delivery: {allow_networks: [10.1.2.3/8]}\n", "did you mean 10.0.0.0/8"},
		"not YAML":           {"listen: [\n", "["},
		"not a mapping":      {"- listen\n", "["},
		"too large":          {"# " + strings.Repeat("x", 1<<20), "over"},
	} {
		_, _, err := config.Load(app.Defaults(), write(t, c.text), nil)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "tocsin.yaml") {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if _, _, err := config.Load(app.Defaults(), filepath.Join(t.TempDir(), "none.yaml"), nil); err == nil {
		t.Error("a file that is not there is fine")
	}
}

func TestErrorsShowNoSecret(t *testing.T) {
	t.Parallel()
	_, _, err := config.Load(app.Defaults(), write(t, "database: {url: 'postgres://u:hunter2@db/t'}\nnats: {password: hunter2}\nnope: 1\n"), nil)
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("postgres://u:p@db/fromfile\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := load(t, "listen: 127.0.0.1:1\nlog: {level: warn}\ndelivery: {jitter: 0.5}\n",
		"TOCSIN_LISTEN=127.0.0.1:2", "TOCSIN_DATABASE_URL_FILE="+secret, "TOCSIN_ROLES=indexer, matcher",
		"TOCSIN_DELIVERY_ALLOW_NETWORKS=127.0.0.0/8,10.0.0.0/8", "TOCSIN_DELIVERY_BREAKER_OPEN_FOR=3s", "TOCSIN_DELIVERY_RATE=2.5",
		"TOCSIN_INDEXER_MAX_LAYER_SIZE=64MiB", "TOCSIN_INDEXER_CONCURRENCY=9", "TOCSIN_UPDATERS_ACCEPT_EMPTY=true",
		"TOCSIN_UPDATERS_CONFIG={osv: {url: 'http://x/'}}", "TOCSIN_UPDATERS_SCHEDULES=osv: '@every 1h'",
		"TOCSIN_AUTH_PSK_KEY=a2V5", "TOCSIN_LOG_LEVEL=", "TOCSIN_TOKEN=not-ours", "PATH=/bin")
	for name, ok := range map[string]bool{
		"environment over file": c.Listen == "127.0.0.1:2",
		"empty variable":        c.Log.Level == "warn",
		"file of a secret":      c.Database.URL.Reveal() == "postgres://u:p@db/fromfile",
		"list":                  slices.Equal(c.Roles, []string{"indexer", "matcher"}),
		"list of networks":      len(c.Delivery.AllowNetworks) == 2,
		"nested duration":       c.Delivery.Breaker.OpenFor.Std() == 3*time.Second,
		"number":                c.Delivery.Rate == 2.5 && c.Delivery.Jitter == 0.5,
		"size":                  c.Indexer.MaxLayerSize == 64<<20,
		"integer":               c.Indexer.Concurrency == 9,
		"boolean":               c.Updaters.AcceptEmpty,
		"mapping":               c.Updaters.Config["osv"].(map[string]any)["url"] == "http://x/",
		"mapping of text":       c.Updaters.Schedules["osv"] == "@every 1h",
		"secret":                c.Auth.PSK.Key.Reveal() == "a2V5",
	} {
		if !ok {
			t.Errorf("%s: not as set", name)
		}
	}
}

func TestEnvironmentErrors(t *testing.T) {
	t.Parallel()
	for _, entry := range []string{
		"TOCSIN_INDEXER_CONCURRENCY=many", "TOCSIN_DELIVERY_TIMEOUT=10", "TOCSIN_UPDATERS_ACCEPT_EMPTY=perhaps",
		"TOCSIN_DELIVERY_JITTER=x", "TOCSIN_UPDATERS_CONFIG=[1]", "TOCSIN_DATABASE_URL_FILE=/nonexistent", "TOCSIN_DELIVERY_CONNS=99999999999",
	} {
		name, _, _ := strings.Cut(entry, "=")
		if _, _, err := config.Load(app.Defaults(), "", []string{entry}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", entry, err)
		}
	}
	if _, _, err := config.Load(app.Defaults(), "", []string{"TOCSIN_DATABASE_URL=postgres://a/b", "TOCSIN_DATABASE_URL_FILE=/dev/null"}); err == nil || !strings.Contains(err.Error(), "both set") {
		t.Errorf("a variable and its file: %v", err)
	}
	for _, entry := range []string{"TOCSIN_LISTN=x", "TOCSIN_LISTEN_FILE=x"} {
		name, _, _ := strings.Cut(entry, "=")
		_, warnings, err := config.Load(app.Defaults(), "", []string{entry})
		if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], name) {
			t.Errorf("%s: warnings %q, %v", entry, warnings, err)
		}
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, path string }{
		{"listen: nowhere", "listen: "},
		{"listen: 'x:99999'", "listen: "},
		{"introspection: 127.0.0.1:6060", "introspection: "},
		{"public_url: ftp://x", "public_url: "},
		{"data_dir: ''", "data_dir: "},
		{"roles: [cook]", "roles: "},
		{"database: {url: 'mysql://x'}", "database.url: "},
		{"database: {max_conns: 3}", "database.max_conns: "},
		{"nats: {url: 'http://x'}", "nats.url: "},
		{"nats: {user: u}", "nats.password: "},
		{"nats: {cert_file: /x}", "nats.key_file: "},
		{"nats: {ca_file: /nonexistent}", "nats.ca_file: "},
		{"nats: {replicas: 3}", "nats.replicas: "},
		{"nats: {replicas: 9, url: 'nats://x'}", "nats.replicas: "},
		{"nats: {max_store: 1KiB}", "nats.max_store: "},
		{"jobs: {max_attempts: 0}", "jobs.max_attempts: "},
		{"jobs: {max_backoff: 1s}", "jobs.max_backoff: "},
		{"indexer: {concurrency: 0}", "indexer.concurrency: "},
		{"indexer: {stall_timeout: 0s}", "indexer.stall_timeout: "},
		{"indexer: {insecure_registries: ['http://x/']}", "indexer.insecure_registries: "},
		{"updaters: {limits: {import: 0B}}", "updaters.limits.import: "},
		{"updaters: {limits: {set: -1s}}", "updaters.limits.set: "},
		{"matcher: {epss_threshold: 1.5}", "matcher.epss_threshold: "},
		{"matcher: {epss_threshold: .nan}", "matcher.epss_threshold: "},
		{"matcher: {retention: 1}", "matcher.retention: "},
		{"notifier: {event_size: 1B}", "notifier.event_size: "},
		{"notifier: {event_size: 1MiB}", "notifier.event_size: "},
		{"delivery: {schedule: [0s]}", "delivery.schedule: "},
		{"delivery: {rate: -1}", "delivery.rate: "},
		{"delivery: {retention: 91d}", "delivery.retention: "},
		{"delivery: {breaker: {failure_ratio: 2}}", "delivery.breaker.failure_ratio: "},
		{"delivery: {breaker: {max_open_for: 1s}}", "delivery.breaker.max_open_for: "},
		{"auth: {psk: {key: '%%%'}}", "auth.psk.key: "},
		{"auth: {psk: {key: a2V5}}", "auth.psk.key: "},
		{"secrets: {keys: [a2V5]}", "secrets.keys[0]: "},
		{"log: {level: loud}", "log.level: "},
		{"log: {format: xml}", "log.format: "},
	} {
		cfg := load(t, c.text)
		err := cfg.Validate()
		if err == nil || !strings.Contains("\n"+err.Error(), "\n"+c.path) {
			t.Errorf("%s: %v, want %q", c.text, err, c.path)
		}
	}
	bad := load(t, "listen: x\nlog: {level: loud}\n")
	if n := strings.Count(bad.Validate().Error(), "\n"); n != 1 {
		t.Errorf("two problems in %d lines:\n%v", n+1, bad.Validate())
	}
}

func TestNothingShowsSecrets(t *testing.T) {
	t.Parallel()
	c := load(t, `
database: {url: "postgres://u:hunter2@db/t?sslpassword=hunter2"}
nats: {url: "nats://hunter2@a:4222, nats://u:hunter2@b:4222", user: u, password: hunter2}
auth: {psk: {key: hunter2}}
secrets: {keys: [hunter2]}
updaters: {config: {osv: {url: "http://u:hunter2@m/", headers: [{Authorization: hunter2}], api_token: hunter2, keep: me}}}
`)
	var out bytes.Buffer
	if err := c.Print(&out); err != nil {
		t.Fatal(err)
	}
	shown := out.String()
	for _, want := range []string{"postgres://u:xxxxx@db/t", "keep: me", "[redacted]", "nats://xxxxx@a:4222,nats://u:xxxxx@b:4222"} {
		if !strings.Contains(shown, want) {
			t.Errorf("%q is not in\n%s", want, shown)
		}
	}
	shown += fmt.Sprintf("%v %+v %#v %s", c, c, c, c.Database.URL)
	var logged bytes.Buffer
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("configuration", "url", c.Database.URL, "key", c.Auth.PSK.Key, "all", c.Auth)
	if strings.Contains(shown+logged.String(), "hunter2") {
		t.Error("a secret is shown")
	}
	// What went in is still there.
	if c.Updaters.Config["osv"].(map[string]any)["api_token"] != "hunter2" || c.Auth.PSK.Key.Reveal() != "hunter2" {
		t.Error("printing changed the configuration")
	}
}

func TestPrintedIsReadBack(t *testing.T) {
	t.Parallel()
	c := load(t, "updaters: {schedules: {osv: '@every 1h'}, config: {osv: {url: 'http://m/'}}}\ndelivery: {allow_networks: [10.0.0.0/8]}\n")
	var out bytes.Buffer
	if err := c.Print(&out); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(c, load(t, out.String()), same); d != "" {
		t.Errorf("%s\nprinted:\n%s", d, out.String())
	}
}

// A Kubernetes Service called tocsin puts its addresses into every container's
// environment.
func TestServiceLinksAreNotOurs(t *testing.T) {
	t.Parallel()
	links := []string{
		"TOCSIN_SERVICE_HOST=10.0.0.1", "TOCSIN_SERVICE_PORT=6060", "TOCSIN_SERVICE_PORT_HTTP=6060", "TOCSIN_PORT=tcp://10.0.0.1:6060",
		"TOCSIN_PORT_6060_TCP=tcp://10.0.0.1:6060", "TOCSIN_PORT_6060_TCP_PROTO=tcp", "TOCSIN_PORT_6060_TCP_PORT=6060", "TOCSIN_PORT_6060_TCP_ADDR=10.0.0.1",
		"TOCSIN_NATS_SERVICE_HOST=10.0.0.2", "TOCSIN_NATS_PORT=tcp://10.0.0.2:4222", "TOCSIN_NATS_PORT_4222_TCP_ADDR=10.0.0.2",
	}
	_, warnings, err := config.Load(app.Defaults(), "", links)
	if err != nil || len(warnings) != 0 {
		t.Errorf("warnings %q, error %v; want neither", warnings, err)
	}
	_, warnings, err = config.Load(app.Defaults(), "", []string{"TOCSIN_LISTEN_PORT_HTTP=1", "TOCSIN_SERVICE=1"})
	if err != nil || len(warnings) != 2 {
		t.Errorf("warnings %q, error %v; want two warnings", warnings, err)
	}
}

// Every key can be set from the environment to its default.
func TestEveryKeyFromTheEnvironment(t *testing.T) {
	t.Parallel()
	var environ []string
	for _, k := range config.Keys(app.Defaults()) {
		if k.Default != "" {
			environ = append(environ, k.Env+"="+k.Default)
		}
		if k.Doc == "" || !strings.HasSuffix(k.Doc, ".") {
			t.Errorf("%s is documented as %q", k.Path, k.Doc)
		}
	}
	c := load(t, "", environ...)
	if d := cmp.Diff(app.Defaults(), c, same); d != "" {
		t.Error(d)
	}
}
