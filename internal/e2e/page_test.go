package e2e

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"tocsin.dev/tocsin/internal/demo"
	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
)

// demoSite is a demo that stays up: an image, a feed that changed, and a
// subscriber who was told.
type demoSite struct {
	API   string // address, without a path
	NATS  string
	Token string // an administrator's
}

// startDemo runs the demo to its end and keeps it up for the test.
func startDemo(t *testing.T) demoSite {
	t.Helper()
	bin, err := buildBinary()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "tocsin-page-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // the private Postgres may run as somebody else
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	out := new(output)
	ended := make(chan error, 1)
	go func() { ended <- demo.Run(ctx, demo.Options{Binary: bin, Dir: dir, Keep: true, Out: out}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil && ctx.Err() == nil {
			t.Error(err)
		}
		os.RemoveAll(dir)
	})
	eventually(t, 4*time.Minute, "the demo stays up", func() (bool, string) {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("the demo ended: %v\n%s", err, out.String())
		default:
		}
		return strings.Contains(out.String(), "It stays up"), tail(out.String(), 500)
	})
	if !strings.Contains(out.String(), "/ui/") {
		t.Errorf("the demo does not say where the page is:\n%s", out.String())
	}
	var run struct{ API, NATS string }
	readJSON(t, filepath.Join(dir, "data", "run.json"), &run)
	token, err := os.ReadFile(filepath.Join(dir, "data", "token"))
	if err != nil {
		t.Fatal(err)
	}
	return demoSite{API: "http://" + run.API, NATS: run.NATS, Token: strings.TrimSpace(string(token))}
}

// publish puts a message on a subject of the demo's JetStream.
func (d demoSite) publish(t *testing.T, subject string, body []byte) {
	t.Helper()
	if err := publishTo(d.NATS, subject, body); err != nil {
		t.Fatal(err)
	}
}

// output gathers what is written from another goroutine.
type output struct {
	mu sync.Mutex
	b  strings.Builder
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// A browserless visitor has cookies and follows no redirects.
type visitor struct {
	t    *testing.T
	site demoSite
	http *http.Client
}

func newVisitor(t *testing.T, site demoSite) *visitor {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &visitor{t, site, &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

func (v *visitor) do(method, path string, form url.Values) (*http.Response, string) {
	v.t.Helper()
	req, err := http.NewRequest(method, v.site.API+path, strings.NewReader(form.Encode()))
	if err != nil {
		v.t.Fatal(err)
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := v.http.Do(req)
	if err != nil {
		v.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	return resp, string(b)
}

func (v *visitor) login(token string) {
	v.t.Helper()
	if resp, body := v.do("POST", "/ui/login", url.Values{"token": {token}}); resp.StatusCode != http.StatusSeeOther {
		v.t.Fatalf("login: %s: %s", resp.Status, tail(body, 500))
	}
}

var formKey = regexp.MustCompile(`name="key" value="([^"]+)"`)

// key is what every form of the session carries.
func (v *visitor) key() string {
	v.t.Helper()
	_, body := v.do("GET", "/ui/", nil)
	m := formKey.FindStringSubmatch(body)
	if m == nil {
		v.t.Fatalf("no form on the first page: %s", tail(body, 500))
	}
	return m[1]
}

// token makes an API token.
func (d demoSite) token(t *testing.T, name string, scopes ...string) v1.Token {
	t.Helper()
	body, err := json.Marshal(v1.TokenRequest{Name: name, Scopes: scopes})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest("POST", d.API+"/api/v1/tokens", strings.NewReader(string(body)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+d.Token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var out v1.Token
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil || resp.StatusCode != http.StatusCreated {
		t.Fatalf("token: %s: %v", resp.Status, err)
	}
	return out
}

// TestPage shows the demo's story on the page, in a browser and without one.
func TestPage(t *testing.T) {
	t.Parallel()
	site := startDemo(t)
	t.Run("doors", func(t *testing.T) { testDoors(t, site) })
	t.Run("owners", func(t *testing.T) { testOwners(t, site) })
	t.Run("browser", func(t *testing.T) { testBrowser(t, site) })
}

// routes are all pages, with an id of nothing where one is asked for.
var routes = []string{
	"GET /ui/", "GET /ui/images", "POST /ui/images", "GET /ui/images/demo%2Fshop:1.0", "POST /ui/images/x/forget", "GET /ui/compare",
	"GET /ui/vulnerabilities", "GET /ui/vulnerabilities/CVE-2025-30204", "GET /ui/events", "GET /ui/events/x", "GET /ui/live",
	"GET /ui/subscriptions", "GET /ui/subscriptions/new", "POST /ui/subscriptions/new", "GET /ui/subscriptions/x", "POST /ui/subscriptions/x/delete",
	"GET /ui/deliveries/x", "POST /ui/deliveries/x/replay", "GET /ui/feeds", "POST /ui/feeds", "GET /ui/jobs", "POST /ui/jobs/x/retry",
	"GET /ui/audit", "GET /ui/doctor", "GET /ui/tokens", "POST /ui/tokens", "POST /ui/tokens/x/revoke", "POST /ui/logout", "GET /ui/nothing",
}

// Nobody gets in without a token, nor does a form work that another page made.
func testDoors(t *testing.T, site demoSite) {
	t.Run("nobody", func(t *testing.T) {
		v := newVisitor(t, site)
		for _, r := range routes {
			method, path, _ := strings.Cut(r, " ")
			resp, body := v.do(method, path, nil)
			location := resp.Header.Get("Location")
			switch {
			case method == "POST" && resp.StatusCode == http.StatusUnauthorized:
			case method == "GET" && resp.StatusCode == http.StatusSeeOther && strings.HasPrefix(location, "/ui/login"):
			default:
				t.Errorf("%s: %s %s", r, resp.Status, location)
			}
			if strings.Contains(body, "demo/shop") {
				t.Errorf("%s shows an image", r)
			}
		}
	})
	t.Run("a wrong token", func(t *testing.T) {
		v := newVisitor(t, site)
		resp, body := v.do("POST", "/ui/login", url.Values{"token": {"tocsin_wrong"}})
		if resp.StatusCode != http.StatusUnauthorized || !strings.Contains(body, "unknown, revoked or expired") || len(resp.Cookies()) > 0 {
			t.Errorf("%s, cookies %v: %s", resp.Status, resp.Cookies(), tail(body, 500))
		}
	})
	t.Run("where a login leads", func(t *testing.T) {
		for to, want := range map[string]string{
			"": "/ui/", "/ui/events?type=x": "/ui/events?type=x", "//evil.example/ui/": "/ui/", "https://evil.example/ui/": "/ui/",
			"/api/v1/images": "/ui/", "/ui/../api": "/ui/", `/\evil.example`: "/ui/",
		} {
			v := newVisitor(t, site)
			resp, _ := v.do("POST", "/ui/login", url.Values{"token": {site.Token}, "to": {to}})
			got, err := url.Parse(resp.Header.Get("Location"))
			if err != nil || !strings.HasPrefix(got.String(), "/ui/") || got.Host != "" || (want != "/ui/" && got.String() != want) {
				t.Errorf("after a login with to=%q: %s", to, got)
			}
		}
	})
	t.Run("a cookie", func(t *testing.T) {
		v := newVisitor(t, site)
		resp, _ := v.do("POST", "/ui/login", url.Values{"token": {site.Token}})
		c := resp.Cookies()[0]
		if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/ui/" || strings.Contains(c.Value, "tocsin_") {
			t.Errorf("cookie %+v", c)
		}
		resp, _ = v.do("GET", "/ui/", nil)
		if csp := resp.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") || resp.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("headers %v", resp.Header)
		}
	})
	t.Run("a form of another page", func(t *testing.T) {
		v, other := newVisitor(t, site), newVisitor(t, site)
		v.login(site.Token)
		other.login(site.Token)
		for _, key := range []string{"", "x", other.key()} {
			if resp, _ := v.do("POST", "/ui/feeds", url.Values{"key": {key}, "set": {"osv"}}); resp.StatusCode != http.StatusForbidden {
				t.Errorf("key %q: %s", key, resp.Status)
			}
		}
		if resp, body := v.do("POST", "/ui/feeds", url.Values{"key": {v.key()}, "set": {"osv"}}); resp.StatusCode != http.StatusSeeOther {
			t.Errorf("its own: %s: %s", resp.Status, tail(body, 500))
		}
		big := url.Values{"key": {v.key()}, "name": {strings.Repeat("x", 1<<20)}}
		if resp, _ := v.do("POST", "/ui/tokens", big); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("a form of a megabyte: %s", resp.Status)
		}
	})
	t.Run("the end of a session", func(t *testing.T) {
		in := func(v *visitor) bool { resp, _ := v.do("GET", "/ui/", nil); return resp.StatusCode == http.StatusOK }
		one, two, three := newVisitor(t, site), newVisitor(t, site), newVisitor(t, site)
		token := site.token(t, "session", "read")
		for _, v := range []*visitor{one, two, three} {
			v.login(token.Secret)
		}
		one.do("POST", "/ui/logout", url.Values{"key": {one.key()}})
		if in(one) || !in(two) {
			t.Errorf("after one logged out: it %t, another %t", in(one), in(two))
		}
		two.do("POST", "/ui/logout", url.Values{"key": {two.key()}, "everywhere": {"1"}})
		if in(two) || in(three) {
			t.Errorf("after one logged out everywhere: it %t, another %t", in(two), in(three))
		}
		three.login(token.Secret)
		admin := newVisitor(t, site)
		admin.login(site.Token)
		admin.do("POST", "/ui/tokens/"+token.ID+"/revoke", url.Values{"key": {admin.key()}})
		if in(three) || !in(admin) {
			t.Errorf("after its token was revoked: it %t, another %t", in(three), in(admin))
		}
	})
}

// What somebody sees is what their token may see.
func testOwners(t *testing.T, site demoSite) {
	v := newVisitor(t, site)
	v.login(site.token(t, "stranger", "read", "subscriptions").Secret)
	admin := newVisitor(t, site)
	admin.login(site.Token)
	link := regexp.MustCompile(`/ui/(subscriptions|deliveries)/[0-9a-f-]{36}`)
	_, list := admin.do("GET", "/ui/subscriptions", nil)
	sub := link.FindString(list)
	_, page := admin.do("GET", sub, nil)
	var delivery string
	for _, m := range link.FindAllString(page, -1) {
		if strings.Contains(m, "deliveries") {
			delivery = m
		}
	}
	if sub == "" || delivery == "" {
		t.Fatalf("the administrator sees subscription %q, delivery %q", sub, delivery)
	}
	if _, body := v.do("GET", "/ui/subscriptions", nil); link.MatchString(body) {
		t.Error("a stranger sees the subscription in the list")
	}
	for _, p := range []string{sub, delivery} {
		if resp, _ := v.do("GET", p, nil); resp.StatusCode != http.StatusNotFound {
			t.Errorf("a stranger gets %s: %s", p, resp.Status)
		}
		if resp, _ := v.do("POST", p+"/replay", url.Values{"key": {v.key()}}); resp.StatusCode/100 == 2 {
			t.Errorf("a stranger replays %s: %s", p, resp.Status)
		}
	}
	if resp, _ := v.do("POST", sub+"/delete", url.Values{"key": {v.key()}}); resp.StatusCode != http.StatusNotFound {
		t.Errorf("a stranger deletes the subscription: %s", resp.Status)
	}
	for _, r := range []string{"GET /ui/tokens", "POST /ui/tokens", "POST /ui/feeds", "POST /ui/images"} {
		method, path, _ := strings.Cut(r, " ")
		if resp, _ := v.do(method, path, url.Values{"key": {v.key()}, "image": {"example.com/a:1"}, "name": {"x"}, "scope": {"admin"}}); resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s by a token without the scope: %s", r, resp.Status)
		}
	}
	resp, body := v.do("GET", "/ui/images", nil)
	if resp.StatusCode != http.StatusOK || !strings.Contains(body, "demo/shop") {
		t.Errorf("a reader sees no images: %s", resp.Status)
	}
}
