package clairconfig_test

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"tocsin.dev/tocsin/internal/app"
	"tocsin.dev/tocsin/internal/clairconfig"
	"tocsin.dev/tocsin/internal/config"
)

// The file lists every key of the configuration of Clair 4.9.0.
func TestEveryKeyOfClairIsAnswered(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/clair-4.9.0-keys.txt")
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Fields(string(text))
	var got []string
	ours := map[string]bool{}
	for _, k := range config.Keys(app.Defaults()) {
		ours[k.Path] = true
	}
	for _, k := range clairconfig.Keys() {
		got = append(got, k.Path)
		if k.Becomes == "" && k.Why == "" {
			t.Errorf("%s: neither a counterpart nor a reason", k.Path)
		}
		if k.Becomes != "" && !strings.HasPrefix(k.Becomes, "tocsin subscribe") && !strings.HasPrefix(k.Becomes, "TOCSIN_") && !ours[k.Becomes] {
			t.Errorf("%s becomes %s, which is no key of Tocsin's", k.Path, k.Becomes)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the table is about\n%s\nand Clair has\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

const everything = `
http_listen_addr: ":6060"
introspection_addr: "0.0.0.0:8089"
log_level: debug-color
tls: {cert: /c, key: /k}
indexer:
  connstring: host=db user=clair dbname=indexer
  scanlock_retry: 10
  layer_scan_concurrency: 5
  index_report_request_concurrency: -1
  migrations: true
  scanner:
    package: {rhel_containerscanner: {name2repos_mapping_file: /n.json}}
    repo: {rhel-repository-scanner: {repo2cpe_mapping_file: /r.json}}
matcher:
  connstring: host=db user=clair dbname=matcher
  indexer_addr: http://clair:6060/
  period: 4h
  update_retention: 0
  cache_age: 2h
  max_conn_pool: 100
matchers: {names: [gobin]}
updaters:
  sets: [osv, debian]
  filter: ^debian
  config: {osv: {url: "http://mirror/"}}
notifier:
  connstring: host=db user=clair dbname=indexer
  poll_interval: 1m
  disable_summary: true
  webhook:
    target: http://10.1.2.3/secscan/notification
    callback: https://clair.example/notifier/api/v1/notification/
    headers: {X-Team: [a b], Authorization: [Bearer s3cret]}
  amqp:
    uris: ["amqp://u:pw-of-amqp@mq1:5672/v", "amqp://u:pw-of-amqp@mq2:5672/v"]
    exchange: {name: clair, type: direct, durability: true, auto_delete: false}
    routing_key: notifications
    direct: true
    rollup: 7
    tls: {root_ca: /ca.pem, cert: /c.pem, key: /k.pem}
auth:
  psk: {key: MDEyMzQ1Njc4OWFiY2RlZg==, iss: [quay, clairctl]}
trace: {name: jaeger}
typo: 1
notifer: {x: 2}
`

func TestTranslate(t *testing.T) {
	t.Parallel()
	r, err := clairconfig.Translate([]byte(everything))
	if err != nil {
		t.Fatal(err)
	}
	text, err := r.YAML()
	if err != nil {
		t.Fatal(err)
	}
	c, err := config.Parse(app.Defaults(), text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if err := c.Validate(); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
	for what, ok := range map[string]bool{
		"listen":        c.Listen == ":6060" && c.Introspection == "0.0.0.0:8089" && c.Log.Level == "debug",
		"public_url":    c.PublicURL.Reveal() == "https://clair.example",
		"database":      c.Database.URL.Reveal() == "host=db user=clair dbname=indexer",
		"indexer":       c.Indexer.LayerConcurrency == 5 && c.Indexer.RequestConcurrency == -1 && len(c.Indexer.Scanners.Package) == 1 && len(c.Indexer.Scanners.Repo) == 1,
		"matcher":       c.Matcher.Retention == 10 && c.Matcher.CacheAge.Std().Hours() == 2 && slices.Equal(c.Matcher.Names, []string{"gobin"}),
		"updaters":      c.Updaters.Schedules["default"] == "@every 4h" && c.Updaters.Filter == "^debian" && len(c.Updaters.Sets) == 2 && len(c.Updaters.Config) == 1,
		"notifications": c.Notifier.DisableSummary,
		"auth":          c.Auth.PSK.Key.Reveal() == "MDEyMzQ1Njc4OWFiY2RlZg==" && slices.Equal(c.Auth.PSK.Issuers, []string{"quay", "clairctl"}),
	} {
		if !ok {
			t.Errorf("%s is not right:\n%s", what, text)
		}
	}
	want := `TOCSIN_SINK_TOKEN=… tocsin subscribe http://10.1.2.3/secscan/notification --mode clair --name clair-webhook --header 'X-Team=a b'`
	if len(r.Subscribe) != 1 || r.Subscribe[0] != want {
		t.Errorf("subscriptions are %q, want %q", r.Subscribe, want)
	}
	amqp := `TOCSIN_SINK_PASSWORD=… tocsin subscribe amqp://mq1:5672/v --mode clair --name clair-amqp --failover amqp://mq2:5672/v ` +
		`--user u --exchange clair --exchange-type direct --routing-key notifications --direct --rollup 7 --ca-file /ca.pem`
	for _, words := range []string{
		amqp, "2 databases", "typo: Clair 4.9 does not know", "notifer.x: Clair 4.9 does not know", "tls.cert: no counterpart", "trace.name: no counterpart",
		"10.1.2.3 is not on the public internet", "matcher.max_conn_pool: no counterpart",
	} {
		if !strings.Contains(string(text), words) {
			t.Errorf("it does not say %q:\n%s", words, text)
		}
	}
	for _, secret := range []string{"pw-of-amqp", "s3cret"} {
		if strings.Contains(string(text), secret) {
			t.Errorf("the commands show the secret %s", secret)
		}
	}
}

func TestTranslateStompAndDefaults(t *testing.T) {
	t.Parallel()
	r, err := clairconfig.Translate([]byte(`{"matcher":{"disable_updaters":true,"update_retention":-1},"notifier":{"stomp":{"uris":["mq:61613"],
"destination":"/queue/it's","user":{"login":"l","passcode":"p"},"callback":"https://x/y/","tls":{"root_ca":"/ca"}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := `TOCSIN_SINK_PASSWORD=… tocsin subscribe stomps://mq:61613 --mode clair --name clair-stomp --destination '/queue/it'\''s' --user l --callback https://x/y/ --ca-file /ca`
	if len(r.Subscribe) != 1 || r.Subscribe[0] != want {
		t.Errorf("subscriptions are %q, want %q", r.Subscribe, want)
	}
	text, err := r.YAML()
	if err != nil {
		t.Fatal(err)
	}
	c, err := config.Parse(app.Defaults(), text)
	if err != nil || c.Validate() != nil || c.Listen != ":6060" || c.Updaters.Schedules["default"] != "off" {
		t.Errorf("%v, %v:\n%s", err, c.Validate(), text)
	}
	for _, bad := range []string{"", "[]", "a: [", "indexer: {scanner: {repo: 7}}\nmatcher: {update_retention: x}", "notifier: {amqp: {uris: ['::']}}"} {
		if _, err := clairconfig.Translate([]byte(bad)); err == nil {
			t.Errorf("%q is translated", bad)
		}
	}
}

var update = flag.Bool("update", false, "write the table in docs/from-clair.md anew")

const (
	begin = "<!-- made from internal/clairconfig: begin -->\n"
	end   = "<!-- made from internal/clairconfig: end -->"
)

func TestReference(t *testing.T) {
	t.Parallel()
	const path = "../../docs/from-clair.md"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := regexp.MustCompile(`(?s)`+regexp.QuoteMeta(begin)+`.*?`+regexp.QuoteMeta(end)).ReplaceAllLiteralString(string(text), begin+keyTable()+end)
	if !strings.Contains(want, begin+keyTable()) {
		t.Fatalf("%s has no place for the table", path)
	}
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if string(text) != want {
		t.Errorf("%s does not have the table of Clair's keys: run `make docs`", path)
	}
}

// keyTable is what becomes of every key, in Markdown. Neighbours with one answer
// share a row.
func keyTable() string {
	var b strings.Builder
	b.WriteString("| Clair's key | becomes | |\n|---|---|---|\n")
	keys := clairconfig.Keys()
	for i := 0; i < len(keys); {
		k, j := keys[i], i+1
		for k.Becomes == "" && j < len(keys) && keys[j].Becomes == "" && keys[j].Why == k.Why {
			j++
		}
		var names []string
		for _, n := range keys[i:j] {
			names = append(names, "`"+n.Path+"`")
		}
		becomes := "nothing"
		if k.Becomes != "" {
			becomes = "`" + k.Becomes + "`"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", strings.Join(names, ", "), becomes, k.Why)
		i = j
	}
	return b.String()
}
