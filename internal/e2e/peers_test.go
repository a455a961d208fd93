//go:build peers

package e2e

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"tocsin.dev/tocsin/internal/postgres/postgrestest"
)

var (
	peerClair    = flag.String("peers.clair", "", "program of Clair v4.9.0")
	peerClairctl = flag.String("peers.clairctl", "", "program clairctl of Clair v4.9.0")
	peerQuay     = flag.String("peers.quay", "", "folder with Quay's sources")
	peerPython   = flag.String("peers.python", "python3", "Python with the modules that Quay's parts need")
)

// peerKey is the pre-shared key of all.
var peerKey = base64.StdEncoding.EncodeToString([]byte("a key that all the peers share.."))

// peers is one Tocsin, one Clair on a database of its own, a registry that
// redirects blobs, a feed, and what has been found out of them.
type peers struct {
	t        *testing.T
	tocsin   *server
	clair    string // URL; "" if there is none
	notifier string // URL of Clair's notifier
	clairDB  string
	registry string // host:port
	feed     string
	dir      string

	mu       sync.Mutex
	advice   []string
	stamp    int
	right    int
	all      int
	notified chan string
}

// TestPeers runs the programs of Clair and parts of Quay against Tocsin. Its
// flags say where they are; it prints a line a check, what is missing, and at the
// end how many checks were right.
func TestPeers(t *testing.T) {
	log.SetOutput(io.Discard) // the registry's
	p := &peers{t: t, dir: t.TempDir(), notified: make(chan string, 100)}
	p.serve()
	p.advise("flask")
	p.startTocsin()
	shop := p.image("shop", "flask", "django")
	p.update()
	p.startClair()

	p.clairctlReports(shop)
	p.clairMatcher(shop)
	heard := p.clairNotifier()
	p.quay(shop)
	p.archives()
	p.compare()
	p.takeover()
	heard()
	fmt.Printf("peers right=%d of=%d\n", p.right, p.all)
	if p.right != p.all {
		t.Fail()
	}
	p.measure()
}

// check prints what came of one check.
func (p *peers) check(what string, err error) {
	p.all++
	if err != nil {
		fmt.Printf("wrong    %s: %v\n", what, err)
		return
	}
	p.right++
	fmt.Printf("right    %s\n", what)
}

func (p *peers) missing(what, give string) {
	fmt.Printf("missing  %s: give %s\n", what, give)
}

func (p *peers) serve() {
	blobs := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	p.t.Cleanup(blobs.Close)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			http.Redirect(w, r, blobs.URL+r.URL.Path, http.StatusTemporaryRedirect)
			return
		}
		blobs.Config.Handler.ServeHTTP(w, r)
	}))
	p.t.Cleanup(front.Close)
	p.registry = strings.TrimPrefix(front.URL, "http://")
	feed := httptest.NewServer(http.HandlerFunc(p.serveFeed))
	p.t.Cleanup(feed.Close)
	p.feed = feed.URL + "/"
}

func (p *peers) serveFeed(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w.Header().Set("Etag", fmt.Sprintf(`"%d"`, p.stamp))
	switch r.URL.Path {
	case "/ecosystems.txt":
		fmt.Fprintln(w, "PyPI")
	case "/PyPI/all.zip":
		z := zip.NewWriter(w)
		for _, n := range p.advice {
			f, err := z.Create("PYSEC-2026-" + n + ".json")
			if err != nil {
				return
			}
			fmt.Fprintf(f, `{"id":"PYSEC-2026-%[1]s","modified":"2026-01-01T00:00:00Z","published":"2026-01-01T00:00:00Z","summary":"a flaw",
"severity":[{"type":"CVSS_V3","score":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
"affected":[{"package":{"ecosystem":"PyPI","name":"%[1]s"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"2.0"}]}]}]}`, n)
		}
		z.Close() // the client may have gone
	default:
		http.NotFound(w, r)
	}
}

func (p *peers) advise(packages ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.advice, p.stamp = append(p.advice, packages...), p.stamp+1
}

// mappings are files that claircore's scanners would fetch from the internet.
func (p *peers) mappings() string {
	file := filepath.Join(p.dir, "mapping.json")
	if err := os.WriteFile(file, []byte(`{"data":{}}`), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return fmt.Sprintf("{repo: {rhel-repository-scanner: {repo2cpe_mapping_file: %[1]s}}, package: {rhel_containerscanner: {name2repos_mapping_file: %[1]s}}}", file)
}

func (p *peers) startTocsin() {
	p.tocsin = newServerOn(p.t, fmt.Sprintf(`nats: {listen: "127.0.0.1:0"}
database: {url: %q}
auth: {psk: {key: %q, iss: [quay, clairctl]}}
updaters: {sets: [osv], schedules: {default: "off"}, config: {osv: {url: %q}}}
`, postgrestest.New(p.t).Config().ConnString(), peerKey, p.feed))
	text, err := os.ReadFile(p.tocsin.config)
	if err == nil {
		text = bytes.Replace(text, []byte("indexer: {"), []byte("indexer: {insecure_registries: [\""+p.registry+"\"], scanners: "+p.mappings()+", "), 1)
		err = os.WriteFile(p.tocsin.config, text, 0o600)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	p.tocsin.start()
}

// update lets Tocsin take in the feed as it is.
func (p *peers) update() {
	p.t.Helper()
	var jobs struct {
		Items []struct {
			ID string `json:"id"`
		} `json:"items"`
	}
	p.tocsin.call("POST", "/api/v1/updates", map[string]string{"set": "osv"}, &jobs)
	eventually(p.t, time.Minute, "the feed is taken in", func() (bool, string) {
		var job struct {
			Done bool `json:"done"`
		}
		var stats struct {
			Pending int `json:"pending_updates"`
		}
		p.tocsin.call("GET", "/api/v1/jobs/"+jobs.Items[0].ID, nil, &job)
		p.tocsin.call("GET", "/api/v1/stats", nil, &stats)
		return job.Done && stats.Pending == 0, fmt.Sprint(job, stats)
	})
}

func freePort(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// process starts a program of a peer's, which is ended with the test.
func (p *peers) process(name string, args ...string) *bytes.Buffer {
	p.t.Helper()
	var out bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		cmd.Wait()
		close(done)
	}()
	p.t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-done:
		case <-time.After(15 * time.Second):
			cmd.Process.Kill()
			<-done
		}
		if p.t.Failed() {
			p.t.Logf("%s:\n%s", name, tail(out.String(), 4000))
		}
	})
	return &out
}

// clairProcess starts Clair in a mode and waits for it.
func (p *peers) clairProcess(mode, config string) (address string, err error) {
	at := freePort(p.t)
	file := filepath.Join(p.dir, mode+".yaml")
	text := fmt.Sprintf("http_listen_addr: %s\nintrospection_addr: %s\nlog_level: info\nauth: {psk: {key: %q, iss: [quay, clairctl]}}\n%s", at, freePort(p.t), peerKey, config)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
	p.process(*peerClair, "-mode", mode, "-conf", file)
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		resp, err := http.Get("http://" + at + "/robots.txt")
		if err == nil {
			resp.Body.Close()
			return "http://" + at, nil
		}
	}
	return "", fmt.Errorf("clair -mode %s does not answer", mode)
}

func (p *peers) clairConfig() string {
	return fmt.Sprintf(`indexer: {connstring: %[1]q, migrations: true, scanner: %[2]s}
matcher: {connstring: %[1]q, migrations: true, indexer_addr: "http://unused/"}
notifier: {connstring: %[1]q, migrations: true}
updaters: {sets: [osv], config: {osv: {url: %[3]q}}}
`, p.clairDB, p.mappings(), p.feed)
}

// startClair starts a Clair of its own, to compare with.
func (p *peers) startClair() {
	if *peerClair == "" {
		return
	}
	p.clairDB = p.database()
	var err error
	if p.clair, err = p.clairProcess("combo", p.clairConfig()); err != nil {
		p.t.Fatal(err)
	}
	eventually(p.t, 2*time.Minute, "Clair has taken in the feed", func() (bool, string) {
		_, b, err := p.ask(p.clair, "GET", "/matcher/api/v1/internal/update_operation?latest=true", nil)
		return err == nil && bytes.Contains(b, []byte("osv/")), string(b)
	})
}

// database is an empty one, by a URL that Clair's client understands.
func (p *peers) database() string {
	u, err := url.Parse(postgrestest.Empty(p.t).Config().ConnString())
	if err != nil {
		p.t.Fatal(err)
	}
	q := u.Query()
	q.Del("require_auth")
	u.RawQuery = q.Encode()
	return u.String()
}

// token signs as clairctl does.
func token() string {
	enc := base64.RawURLEncoding
	now := time.Now().Unix()
	text := enc.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." +
		enc.EncodeToString(fmt.Appendf(nil, `{"iss":"clairctl","iat":%d,"nbf":%d,"exp":%d}`, now, now-60, now+300))
	key, _ := base64.StdEncoding.DecodeString(peerKey)
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return text + "." + enc.EncodeToString(m.Sum(nil))
}

// ask sends one request of Clair's API.
func (p *peers) ask(base, method, path string, body any) (int, []byte, error) {
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		in = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, base+path, in)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token())
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, b, err
}

func (p *peers) base() string { return "http://" + p.tocsin.addr.API }

// peerImage is an image in the registry.
type peerImage struct {
	ref    string
	Hash   string  `json:"hash"`
	Layers []layer `json:"layers"`
}

// image pushes an image with PyPI packages of version 1.0.
func (p *peers) image(repository string, packages ...string) peerImage {
	p.t.Helper()
	var raw bytes.Buffer
	z := gzip.NewWriter(&raw)
	w := tar.NewWriter(z)
	for _, n := range packages {
		text := "Metadata-Version: 2.1\nName: " + n + "\nVersion: 1.0\n"
		if err := w.WriteHeader(&tar.Header{Name: "usr/lib/python3/dist-packages/" + n + "-1.0.dist-info/METADATA", Mode: 0o644, Size: int64(len(text)), Typeflag: tar.TypeReg}); err != nil {
			p.t.Fatal(err)
		}
		io.WriteString(w, text)
	}
	w.Close()
	z.Close()
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw.Bytes())), nil })
	if err != nil {
		p.t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, l)
	if err == nil {
		img, err = mutate.ConfigFile(img, &v1.ConfigFile{OS: "linux", Architecture: "amd64", RootFS: v1.RootFS{Type: "layers", DiffIDs: diffIDs(p.t, img)}, Author: repository})
	}
	if err != nil {
		p.t.Fatal(err)
	}
	ref, err := name.ParseReference(p.registry+"/peers/"+repository+":1", name.Insecure)
	if err == nil {
		err = remote.Write(ref, img)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	digest, _ := img.Digest()
	blob, _ := l.Digest()
	return peerImage{ref: ref.String(), Hash: digest.String(), Layers: []layer{{
		Hash: blob.String(), URI: "http://" + p.registry + "/v2/peers/" + repository + "/blobs/" + blob.String(), Headers: map[string][]string{},
	}}}
}

func diffIDs(t *testing.T, img v1.Image) []v1.Hash {
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	return c.RootFS.DiffIDs
}

// run runs a program of a peer's to its end.
func (p *peers) run(limit time.Duration, env []string, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w: %s", filepath.Base(name), strings.Join(args, " "), err, tail(strings.TrimSpace(errs.String()+out.String()), 600))
	}
	return out.String(), nil
}
