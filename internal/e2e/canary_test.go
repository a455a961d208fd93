package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"tocsin.dev/tocsin/internal/config"
	"tocsin.dev/tocsin/internal/postgres/postgrestest"
)

// canary is in every secret of TestNoSecretLeaks; encoded is how it begins in
// base64, as keys are written.
const (
	canary  = "c4n4ry"
	encoded = "YzRuNHJ5"
)

// secretOf is a secret of n bytes that begins with the canary, in base64.
func secretOf(name string, n int) string {
	text := (canary + "-" + name + strings.Repeat("-0123456789", 8))[:n]
	return base64.StdEncoding.EncodeToString([]byte(text))
}

// unplanted are the secret keys that cannot be used together with the others, and
// why what holds for those holds for them.
var unplanted = map[string]string{
	"public_url":          "its password would be in the links of every event, and is refused",
	"database.direct_url": "read as database.url is, and needed behind a pooler alone",
	"nats.url":            "read as database.url is; here the server is embedded",
}

// TestNoSecretLeaks plants the canary in every secret-bearing key of the
// configuration and in every secret that is stored, has all of them used and fail,
// and looks for it wherever somebody may read.
func TestNoSecretLeaks(t *testing.T) {
	t.Parallel()
	pool := postgrestest.New(t)
	db, err := url.Parse(pool.Config().ConnString())
	if err != nil {
		t.Fatal(err)
	}
	role := "leaks_" + strings.TrimPrefix(db.Path, "/")
	if _, err := pool.Exec(t.Context(), `CREATE ROLE "`+role+`" LOGIN SUPERUSER PASSWORD '`+canary+`-database'`); err != nil {
		t.Fatal(err)
	}
	db.User = url.UserPassword(role, canary+"-database")
	// Ports of the discard service: nobody listens there.
	planted := map[string]string{
		"database.url":         db.String(),
		"nats.password":        canary + "-nats",
		"auth.psk.key":         secretOf("psk", 32),
		"ingest.github_secret": canary + "-github",
		"secrets.keys":         secretOf("keys", 32),
		"indexer.proxy":        "http://u:" + canary + "-proxy@127.0.0.1:9",
		"delivery.proxy":       "http://u:" + canary + "-proxy@127.0.0.1:9",
		"updaters.proxy":       "http://u:" + canary + "-proxy@127.0.0.1:9",
		"updaters.config":      "http://u:" + canary + "-feed@127.0.0.1:9/?token=" + canary,
	}
	for _, key := range secretKeys(reflect.TypeFor[config.Config](), "") {
		if planted[key] == "" && unplanted[key] == "" {
			t.Errorf("%s holds a secret: plant the canary in it", key)
		}
	}
	s := newServerOn(t, "")
	s.writeConfig(planted)
	s.start()

	var subs []string
	for _, sub := range []map[string]any{
		{"name": "hook", "sink": "http://127.0.0.1:9/", "secret": "whsec_" + secretOf("signing", 24), "sinkcredential": plain(canary + "-hook")},
		{"name": "bearer", "sink": "http://127.0.0.1:9/", "sinkcredential": map[string]any{"credentialtype": "ACCESSTOKEN", "accesstoken": canary + "-bearer"}},
		{"name": "amqp", "sink": "amqp://127.0.0.1:9/", "protocolsettings": map[string]any{"routingkey": "q"}, "sinkcredential": plain(canary + "-amqp")},
		{"name": "stomp", "sink": "stomp://127.0.0.1:9/", "protocolsettings": map[string]any{"destination": "/queue/q"}, "sinkcredential": plain(canary + "-stomp")},
		{"name": "nats", "sink": "nats://127.0.0.1:9", "protocolsettings": map[string]any{"subject": "q"}, "sinkcredential": plain(canary + "-nats")},
	} {
		sub["config"] = map[string]any{"retry": map[string]any{"schedule": []string{"1s"}}}
		var made struct{ ID string }
		s.call("POST", "/api/v1/subscriptions", sub, &made)
		subs = append(subs, made.ID)
		s.call("POST", "/api/v1/subscriptions/"+made.ID+"/test", nil, nil)
	}
	layer := map[string]any{
		"hash": "sha256:" + strings.Repeat("1", 64), "uri": "http://127.0.0.1:9/layer?X-Amz-Signature=" + canary + "-presigned",
		"headers": map[string]any{"Authorization": []string{"Bearer " + canary + "-layer"}},
	}
	s.call("POST", "/api/v1/images", map[string]any{"manifest": map[string]any{"hash": "sha256:" + strings.Repeat("2", 64), "layers": []any{layer}}}, nil)
	s.call("POST", "/api/v1/images", map[string]any{"image": "http://u:" + canary + "-image@127.0.0.1:9/app:1"}, nil, 422, 400, 502)
	s.call("POST", "/api/v1/subscriptions", map[string]any{"sink": "http://u:" + canary + "-sink@127.0.0.1:9/", "secret": canary, "sinkcredential": plain(canary)}, nil, 422)
	s.publish("tocsin.manifests", []byte(`not JSON: Authorization: Bearer `+canary+`-message, "password": "`+canary+`"`))
	s.publish("tocsin.manifests", []byte(`{"image":17,"headers":{"X-Api-Key":"`+canary+`-json"},"password":"`+canary+`"}`))
	s.call("POST", "/api/v1/updates", map[string]any{"set": "osv"}, nil)

	eventually(t, 2*time.Minute, "everything to be used and to fail", func() (bool, string) {
		var deliveries struct{ Items []struct{ Attempts int } }
		s.call("GET", "/api/v1/deliveries?limit=500", nil, &deliveries)
		tried := 0
		for _, d := range deliveries.Items {
			if d.Attempts > 0 {
				tried++
			}
		}
		var jobs struct {
			Items []struct{ Kind, Reason string }
		}
		s.call("GET", "/api/v1/jobs?limit=500", nil, &jobs)
		reasons := map[string]int{}
		for _, j := range jobs.Items {
			if j.Reason != "" {
				reasons[j.Kind]++
			}
		}
		return tried >= len(subs) && reasons["manifest"] >= 3 && reasons["update"] >= 1, fmt.Sprintf("%d deliveries tried, jobs with reasons %v", tried, reasons)
	})
	for where, text := range s.everythingReadable(subs) {
		for _, form := range []string{canary, encoded} {
			if at := strings.Index(text, form); at >= 0 {
				t.Errorf("%s shows a secret: …%s…", where, text[max(0, at-200):min(len(text), at+60)])
			}
		}
	}
}

func plain(secret string) map[string]any {
	return map[string]any{"credentialtype": "PLAIN", "identifier": "u", "secret": secret}
}

// secretKeys are the keys of the configuration whose type may hold a secret.
func secretKeys(t reflect.Type, prefix string) (keys []string) {
	if t.Kind() != reflect.Struct {
		return nil
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if name == "" {
			continue
		}
		kind := f.Type
		if kind.Kind() == reflect.Slice {
			kind = kind.Elem()
		}
		switch kind {
		case reflect.TypeFor[config.Secret](), reflect.TypeFor[config.URL]():
			keys = append(keys, prefix+name)
		case reflect.TypeFor[config.Foreign]():
			if prefix == "updaters." { // the others' have no feeds to log in at
				keys = append(keys, prefix+name)
			}
		default:
			keys = append(keys, secretKeys(f.Type, prefix+name+".")...)
		}
	}
	return keys
}

// writeConfig writes a configuration with the planted keys, those that there are.
func (s *server) writeConfig(planted map[string]string) {
	s.t.Helper()
	tree := map[string]any{
		"listen": "127.0.0.1:0", "introspection": "127.0.0.1:0", "data_dir": filepath.Join(s.dir, "data"), "log": map[string]any{"level": "debug", "format": "json"},
		"nats":     map[string]any{"listen": "127.0.0.1:0", "user": "u"},
		"delivery": map[string]any{"allow_networks": []string{"127.0.0.0/8"}}, "indexer": map[string]any{"allow_networks": []string{"127.0.0.0/8"}},
		"updaters": map[string]any{"sets": []string{"osv"}, "schedules": map[string]any{"default": "@every 24h"}},
		"jobs":     map[string]any{"max_attempts": 1},
	}
	known := secretKeys(reflect.TypeFor[config.Config](), "")
	for key, value := range planted {
		if !slices.Contains(known, key) {
			continue
		}
		path := strings.Split(key, ".")
		at := tree
		for _, p := range path[:len(path)-1] {
			if at[p] == nil {
				at[p] = map[string]any{}
			}
			at = at[p].(map[string]any)
		}
		var v any = value
		switch key {
		case "secrets.keys":
			v = []string{value}
		case "updaters.config":
			v = map[string]any{"osv": map[string]any{"url": value}}
		}
		at[path[len(path)-1]] = v
	}
	var text bytes.Buffer // JSON is YAML too
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	if err := e.Encode(tree); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(s.config, text.Bytes(), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// everythingReadable is what the server says anywhere, by where it says it.
func (s *server) everythingReadable(subs []string) map[string]string {
	s.t.Helper()
	out := map[string]string{"the log": s.log()}
	get := func(path string) string {
		_, b, err := s.request("GET", path, nil)
		if err != nil {
			s.t.Fatal(err)
		}
		out["GET "+path] = string(b)
		return string(b)
	}
	var api struct{ Paths map[string]map[string]any }
	if err := json.Unmarshal([]byte(get("/openapi.json")), &api); err != nil {
		s.t.Fatal(err)
	}
	for path, methods := range api.Paths {
		if methods["get"] != nil && !strings.Contains(path, "{") {
			get(path + map[bool]string{true: "?limit=500"}[path != "/api/v1/stats" && path != "/api/v1/version" && path != "/api/v1/updaters" && path != "/api/v1/diff"])
		}
	}
	for _, id := range subs {
		get("/api/v1/subscriptions/" + id)
	}
	for list, parts := range map[string][]string{"events": {""}, "jobs": {""}, "deliveries": {"", "/attempts"}} {
		var page struct{ Items []struct{ ID string } }
		s.call("GET", "/api/v1/"+list+"?limit=500", nil, &page)
		for _, item := range page.Items {
			for _, part := range parts {
				get("/api/v1/" + list + "/" + item.ID + part)
			}
		}
	}
	for _, path := range []string{"/metrics", "/readyz", "/debug/pprof/cmdline", "/debug/pprof/goroutine?debug=2", "/debug/pprof/"} {
		r, err := http.Get("http://" + s.addr.Introspection + path)
		if err != nil {
			s.t.Fatal(err)
		}
		b, _ := io.ReadAll(r.Body)
		r.Body.Close()
		out["introspection "+path] = string(b)
	}
	for _, args := range []string{
		"subscriptions", "subscriptions -o json", "subscriptions show " + subs[0], "events -n 0 -o json", "events", "deliveries -o json", "jobs -o json", "jobs --failed",
		"updaters list", "updaters status", "updaters status -o json", "images -o json", "tokens -o json", "audit", "audit --export", "stats", "config print --config " + s.config,
		"config check --config " + s.config, "health",
	} {
		cmd := exec.CommandContext(s.t.Context(), s.bin, strings.Fields(args)...)
		cmd.Env = append(os.Environ(), "TOCSIN_DATA_DIR="+filepath.Join(s.dir, "data"))
		b, _ := cmd.CombinedOutput() // what it says when it fails is read as well
		out["tocsin "+args] = string(b)
	}
	return out
}
