package clair_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"tocsin.dev/tocsin/indexer"
	"tocsin.dev/tocsin/internal/app"
	"tocsin.dev/tocsin/internal/config"
	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/internal/postgres/postgrestest"
)

func TestMain(m *testing.M) {
	indexer.ServeScans() // this binary scans layers for the servers that it runs
	postgrestest.Main(m)
}

// process is a whole server, as Clair's clients see it.
type process struct {
	url, token string
	pool       *pgxpool.Pool
	layers     *httptest.Server
	served     map[string][]byte // by path
	stop       func()
	dir        string // of its data
}

// start runs a server until the test ends. Layers may be on this machine.
func start(t *testing.T, set ...func(*config.Config)) *process {
	t.Helper()
	return startOn(t, postgrestest.New(t), set...)
}

func (p *process) serveLayers(t *testing.T) {
	p.layers = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := p.served[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Write(body)
	}))
	t.Cleanup(p.layers.Close)
}

func startOn(t *testing.T, pool *pgxpool.Pool, set ...func(*config.Config)) *process {
	t.Helper()
	p := &process{pool: pool, served: map[string][]byte{}}
	p.serveLayers(t)
	c := app.Defaults()
	c.DataDir = t.TempDir()
	c.Database.URL = config.NewURL(p.pool.Config().ConnString())
	c.Listen, c.Introspection, c.NATS.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	c.Indexer.AllowNetworks = []config.Network{{Prefix: netip.MustParsePrefix("127.0.0.0/8")}}
	c.Updaters.Sets, c.Updaters.Schedules = []string{"osv"}, map[string]string{"default": "off"}
	for _, f := range set {
		f(&c)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- app.New(c, v1.Version{}, slog.New(slog.NewTextHandler(t.Output(), nil)), nil).Run(ctx)
	}()
	p.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
	t.Cleanup(p.stop)
	os.Remove(filepath.Join(c.DataDir, app.RunFile)) // of a server before
	var run app.Addresses
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		b, err := os.ReadFile(filepath.Join(c.DataDir, app.RunFile))
		if err == nil && json.Unmarshal(b, &run) == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the server has not come up")
		}
	}
	token, err := os.ReadFile(filepath.Join(c.DataDir, "token"))
	if err != nil {
		t.Fatal(err)
	}
	p.dir = c.DataDir
	p.url, p.token = "http://"+run.API, strings.TrimSpace(string(token))
	return p
}

// call sends one request and returns the status and the body.
func (p *process) call(t *testing.T, method, path string, body any) (int, []byte) {
	t.Helper()
	text, ok := body.(string)
	if !ok && body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		text = string(b)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, p.url+path, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+p.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, b
}

type wireManifest struct {
	Hash   string      `json:"hash"`
	Layers []wireLayer `json:"layers"`
}

type wireLayer struct {
	Hash    string              `json:"hash"`
	URI     string              `json:"uri"`
	Headers map[string][]string `json:"headers,omitempty"`
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// debian is a manifest of one layer with a Debian image's files and packages.
func (p *process) debian(t *testing.T, packages ...string) wireManifest {
	t.Helper()
	status := ""
	for _, name := range packages {
		status += fmt.Sprintf("Package: %s\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.0-1\nMaintainer: x\nDescription: x\n\n", name)
	}
	return p.layer(t, archive(t, map[string]string{
		"etc/os-release":      "ID=debian\nVERSION_ID=\"12\"\nVERSION=\"12 (bookworm)\"\nVERSION_CODENAME=bookworm\nNAME=\"Debian GNU/Linux\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n",
		"var/lib/dpkg/status": status, "var/lib/dpkg/info/x.list": "",
	}))
}

// layer serves a blob and returns a manifest of it alone.
func (p *process) layer(t *testing.T, blob []byte) wireManifest {
	t.Helper()
	d := digest(blob)
	p.served["/"+d] = blob
	return wireManifest{Hash: digest([]byte(d + t.Name())), Layers: []wireLayer{{Hash: d, URI: p.layers.URL + "/" + d}}}
}

func archive(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for name, text := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

const (
	indexReport = "/indexer/api/v1/index_report"
	affected    = "/indexer/api/v1/internal/affected_manifest/"
	operations  = "/matcher/api/v1/internal/update_operation"
)

// The everyday calls of a registry, in order, against one server.
func TestClairOnARunningServer(t *testing.T) {
	t.Parallel()
	p := start(t, func(c *config.Config) {
		c.Jobs.MinBackoff = config.Duration(time.Hour)
		c.Jobs.MaxBackoff = config.Duration(time.Hour)
	})
	must := func(t *testing.T, want int, method, path string, body any) []byte {
		t.Helper()
		status, b := p.call(t, method, path, body)
		if status != want {
			t.Fatalf("%s %s is %d, want %d: %.500s", method, path, status, want, b)
		}
		return b
	}
	good := p.debian(t, "bash", "zlib1g")

	t.Run("Fault9_NoUpdateYet", func(t *testing.T) {
		for _, query := range []string{"", "?latest=true", "?kind=enrichment"} {
			if b := must(t, 200, "GET", operations+query, nil); strings.TrimSpace(string(b)) != "{}" {
				t.Errorf("%s: %s", query, b)
			}
		}
	})
	t.Run("Fault1_HeadersOfARedirectedRequest", func(t *testing.T) {
		m := good
		m.Layers = []wireLayer{{good.Layers[0].Hash, good.Layers[0].URI, map[string][]string{
			"Referer": {"https://registry.example/v2/x"}, "Accept-Encoding": {"gzip"}, "Range": {"bytes=0-0"}, "Host": {"x"},
			"Date": {"now"}, "Private-Token": {"t"}, "X-Trace": {"1", "bad\x01"}, "User-Agent": {"clairctl"},
		}}}
		b := must(t, 201, "POST", indexReport, m)
		var r struct {
			Packages map[string]struct {
				Source map[string]any `json:"source"`
			} `json:"packages"`
		}
		if err := json.Unmarshal(b, &r); err != nil || len(r.Packages) < 2 {
			t.Fatalf("%d packages, %v: %.300s", len(r.Packages), err, b)
		}
		for id, pkg := range r.Packages {
			if pkg.Source == nil {
				t.Errorf("package %s has no source", id)
			}
		}
	})
	t.Run("Fault10_KnownDigestOtherLayers", func(t *testing.T) {
		other := p.debian(t, "curl")
		other.Hash = good.Hash
		if b := must(t, 201, "POST", indexReport, other); !bytes.Contains(b, []byte(`"bash"`)) || bytes.Contains(b, []byte(`"curl"`)) {
			t.Errorf("not the report of what is indexed: %.300s", b)
		}
	})
	t.Run("Fault10_NotATar", func(t *testing.T) {
		must(t, 400, "POST", indexReport, p.layer(t, []byte("this is no archive")))
	})
	t.Run("Fault10_PrivateAddress", func(t *testing.T) {
		m := p.debian(t, "a")
		m.Layers[0].URI = "http://10.1.2.3/layer"
		must(t, 500, "POST", indexReport, m)
		m.Layers[0].URI = "file:///etc/passwd"
		must(t, 400, "POST", indexReport, m)
	})
	t.Run("Fault5_AnswersAfterTheFirstAttempt", func(t *testing.T) {
		m := p.debian(t, "later")
		blob := p.served["/"+m.Layers[0].Hash]
		m.Layers[0].URI = "http://127.0.0.1:1/x" // nothing listens there
		begin := time.Now()
		must(t, 500, "POST", indexReport, m)
		if took := time.Since(begin); took > 30*time.Second {
			t.Errorf("the answer took %v, retries included", took)
		}
		// Its job waits an hour for the next attempt; another request is one.
		m.Layers[0].URI = p.layers.URL + "/" + digest(blob)
		must(t, 201, "POST", indexReport, m)
	})
	t.Run("Fault8_AffectedManifests", func(t *testing.T) {
		vuln := func(id, name, pkg, kind string) map[string]any {
			return map[string]any{
				"id": id, "name": name, "updater": "debian/updater", "normalized_severity": "High", "fixed_in_version": "1.0-2",
				"package": map[string]any{"name": pkg, "kind": kind},
				"distribution": map[string]any{
					"did": "debian", "name": "Debian GNU/Linux", "version": "12 (bookworm)", "version_id": "12", "version_code_name": "bookworm",
					"pretty_name": "Debian GNU/Linux 12 (bookworm)",
				},
			}
		}
		fixed := vuln("3", "CVE-2024-3", "bash", "binary")
		fixed["fixed_in_version"] = "0.9-1"
		b := must(t, 200, "POST", affected, map[string]any{"vulnerabilities": []any{
			vuln("1", "CVE-2024-1", "bash", "binary"), // no feed has it, or ever had
			vuln("2", "", "nosuch", "binary"), vuln("5", strings.Repeat("long ", 1000), "nosuch", "binary"),
			fixed, map[string]any{"id": "4"},
		}})
		var r struct {
			Manifests map[string][]string `json:"vulnerable_manifests"`
		}
		if err := json.Unmarshal(b, &r); err != nil || fmt.Sprint(r.Manifests) != fmt.Sprint(map[string][]string{good.Hash: {"1"}}) {
			t.Errorf("%v, %v: want %s by 1 alone", r.Manifests, err, good.Hash)
		}
	})
	t.Run("Fault8_WhatNoRowCanHold", func(t *testing.T) {
		for _, body := range []string{
			`{"vulnerabilities":[{"id":"1","package":{"name":"a\u0000b"}}]}`,
			"{\"vulnerabilities\":[{\"id\":\"1\",\"name\":\"\xff\"}]}",
			`{"vulnerabilities":[{"id":"1","arch_op":"qual"}]}`,
			`{"vulnerabilities":[{"id":"1","normalized_severity":"nknow"}]}`,
			`{"vulnerabilities":[{"id":"1","package":{"name":"a","kind":"inar"}}]}`,
			`{"vulnerabilities":{}}`, `[]`, `{"vulnerabilities":[{}]`, `{} {}`,
		} {
			must(t, 400, "POST", affected, body)
		}
	})
	t.Run("Fault8_EmptyObjectsCostNothing", func(t *testing.T) {
		must(t, 413, "POST", affected, `{"vulnerabilities":[`+strings.Repeat("{},", 4_000_000)+`{}]}`)
	})
	t.Run("Fault13_LatencyOfAKnownLayer", func(t *testing.T) {
		for i := range 4 {
			m := good
			m.Hash = digest(fmt.Appendf(nil, "again %d", i))
			begin := time.Now()
			must(t, 201, "POST", indexReport, m)
			t.Logf("indexed in %v", time.Since(begin))
		}
	})
}
