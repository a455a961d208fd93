package cli

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"tocsin.dev/tocsin/internal/config"
	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
)

// configFlags name a configuration and override some of it.
type configFlags struct {
	Config      string `help:"Configuration file (YAML)." env:"TOCSIN_CONFIG" placeholder:"FILE"`
	DatabaseURL string `help:"Postgres URL; without one a private cluster is run in the data directory." env:"TOCSIN_DATABASE_URL" placeholder:"URL"`
	NATSURL     string `name:"nats-url" help:"NATS URL; without one JetStream is run inside." env:"TOCSIN_NATS_URL" placeholder:"URL"`
	LogLevel    string `help:"debug, info, warn or error." env:"TOCSIN_LOG_LEVEL" placeholder:"LEVEL"`
}

// ours are variables of the command line, which are no keys of a configuration.
var ours = []string{"TOCSIN_CONFIG", "TOCSIN_SERVER", "TOCSIN_TOKEN", "TOCSIN_WEBHOOK_SECRET", "TOCSIN_SINK_PASSWORD"}

// load reads the configuration: the file, the environment, then the flags. It
// tells the person of warnings, and is not validated yet.
func (f configFlags) load(e *env) (config.Config, error) {
	environ := slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains(ours, name)
	})
	c, warnings, err := config.Load(e.actions.Defaults, f.Config, environ)
	if err != nil {
		return c, &hinted{error: err, hint: "docs/configuration.md lists every key; `tocsin config print` shows the effective ones."}
	}
	for _, w := range warnings {
		e.notef("%s %s", e.notice.Warn("warning:"), w)
	}
	if e.global.DataDir != "" {
		c.DataDir = e.global.DataDir
	}
	if f.DatabaseURL != "" {
		c.Database.URL = config.NewURL(f.DatabaseURL)
	}
	if f.NATSURL != "" {
		c.NATS.URL = config.NewURL(f.NATSURL)
	}
	if f.LogLevel != "" {
		c.Log.Level = f.LogLevel
	}
	return c, nil
}

// valid is load for a command that is going to use the configuration.
func (f configFlags) valid(e *env) (config.Config, error) {
	c, err := f.load(e)
	if err == nil {
		err = c.Validate()
	}
	return c, err
}

type serveCmd struct {
	configFlags
	Listen string   `help:"Address of the API." env:"TOCSIN_LISTEN" placeholder:"HOST:PORT"`
	Roles  []string `help:"Run only these roles: indexer, updater, matcher, notifier, delivery." env:"TOCSIN_ROLES" placeholder:"ROLE,…"`
}

func (serveCmd) Help() string {
	return `With no configuration at all it runs every role on loopback: the API on :6060, metrics and health on :8089,
JetStream inside, and Postgres from --database-url or, without one, a private cluster from the Postgres binaries of this
machine. Data is kept in /var/lib/tocsin as root, else in ~/.local/share/tocsin; the first API token is in the file
token there.

Examples:
  tocsin serve
  tocsin serve --config /etc/tocsin.yaml
  tocsin serve --database-url postgres://tocsin@db/tocsin --nats-url nats://nats:4222 --roles delivery`
}

func (c *serveCmd) Run(e *env) error {
	cfg, err := c.load(e)
	if err != nil {
		return err
	}
	if c.Listen != "" {
		cfg.Listen = c.Listen
	}
	if len(c.Roles) > 0 {
		cfg.Roles = c.Roles
	}
	if err := cfg.Validate(); err != nil {
		return err
	}
	return e.actions.Serve(e.ctx, cfg)
}

type configCmd struct {
	Check     configCheckCmd     `cmd:"" help:"Say what is wrong with a configuration."`
	Print     configPrintCmd     `cmd:"" help:"Print the effective configuration, secrets redacted."`
	FromClair configFromClairCmd `cmd:"" help:"Translate a configuration of Clair."`
}

type configCheckCmd struct{ configFlags }

func (configCheckCmd) Help() string {
	return "Examples:\n  tocsin config check --config /etc/tocsin.yaml\n  TOCSIN_DELIVERY_TIMEOUT=5s tocsin config check"
}

func (c *configCheckCmd) Run(e *env) error {
	cfg, err := c.valid(e)
	if err != nil {
		return err
	}
	if err := e.actions.Check(cfg); err != nil {
		return err
	}
	name := c.Config
	if name == "" {
		name = "the configuration without a file"
	}
	return e.print(map[string]bool{"ok": true}, func() error { return e.printf("%s is fine\n", name) })
}

type configPrintCmd struct{ configFlags }

func (c *configPrintCmd) Run(e *env) error {
	cfg, err := c.load(e)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := cfg.Print(&text); err != nil {
		return err
	}
	out := text.Bytes()
	if e.json {
		if out, err = yaml.YAMLToJSON(out); err != nil {
			return fmt.Errorf("print configuration: %w", err)
		}
	}
	_, err = e.out.Write(out)
	return err
}

type versionCmd struct{}

const platform = runtime.GOOS + "/" + runtime.GOARCH

func (versionCmd) Run(e *env) error {
	v := e.actions.Version
	return e.print(v, func() error {
		return e.printf("%s\n", versionLine(v))
	})
}

type healthCmd struct {
	Introspection string        `help:"Address of the introspection server, if it is not on the API's host at port 8089." env:"TOCSIN_INTROSPECTION" placeholder:"HOST:PORT"`
	Wait          time.Duration `help:"Wait up to this long for the server to be ready."`
}

func (healthCmd) Help() string {
	return `Exits 0 if the server is ready, 4 if none answers, 1 if it answers that it is not ready.

Examples:
  tocsin health
  tocsin health --wait 30s`
}

func (c *healthCmd) Run(e *env) error {
	deadline := e.now().Add(c.Wait)
	defer e.progressEnd()
	for {
		err := ready(e, "http://"+c.address(e)+"/readyz") // a server that is starting has yet to say where it is
		if err == nil {
			return e.print(map[string]bool{"ready": true}, func() error { return e.printf("ready\n") })
		}
		if !e.now().Before(deadline) {
			return err
		}
		e.progress("waiting: %v", err)
		select {
		case <-e.ctx.Done():
			return e.ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// address is where readiness is asked.
func (c *healthCmd) address(e *env) string {
	if c.Introspection != "" {
		return c.Introspection
	}
	if b, err := os.ReadFile(filepath.Join(e.dataDir(), "run.json")); err == nil && e.global.Server == "" {
		if a := introspectionOf(b); a != "" {
			return a
		}
	}
	host := "127.0.0.1"
	if cl, err := e.client(); err == nil {
		host = cl.base.Hostname()
	}
	return net.JoinHostPort(host, "8089")
}

func ready(e *env, url string) error {
	req, err := http.NewRequestWithContext(e.ctx, http.MethodGet, url, nil)
	if err != nil {
		return usage("%q is not an address", url)
	}
	resp, err := (&http.Client{Timeout: 5 * time.Second}).Do(req)
	if err != nil {
		return &hinted{error: fmt.Errorf("no answer from %s: %w", url, err), hint: "Start a server with `tocsin serve`, or give its introspection address with --introspection.", code: ExitUnreachable}
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		b := make([]byte, 1024)
		n, _ := resp.Body.Read(b) // whatever there is of an explanation
		return fmt.Errorf("the server is not ready: %s %s", resp.Status, strings.TrimSpace(string(b[:n])))
	}
	return nil
}

type demoCmd struct {
	Keep bool   `help:"Stay up afterwards, to play with." env:"KEEP"`
	Dir  string `help:"Directory for the demo's data; default: a temporary one that is removed." placeholder:"DIR"`
}

func (demoCmd) Help() string {
	return `Starts a server of its own on free ports, builds a small image on the spot, publishes it over NATS, lets a
vulnerability feed change, and shows the signed event that arrives. Needs no internet, leaves nothing running.`
}

func (c *demoCmd) Run(e *env) error {
	return e.actions.Demo(e.ctx, DemoOptions{Keep: c.Keep, Dir: c.Dir}, e.out, e.style)
}

type statsCmd struct{}

func (statsCmd) Run(e *env) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	var s v1.Stats
	if err := c.call(http.MethodGet, "/stats", nil, nil, &s); err != nil {
		return err
	}
	return e.print(s, func() error { return e.stats(s) })
}
