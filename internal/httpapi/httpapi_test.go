package httpapi_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"tocsin.dev/tocsin/internal/access"
	"tocsin.dev/tocsin/internal/httpapi"
	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/internal/postgres/postgrestest"
	"tocsin.dev/tocsin/internal/traceparent"
	"tocsin.dev/tocsin/schemas"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

// memory keeps subscriptions and blobs for the tests of the HTTP side: what is
// real here is the server, its tokens and its database.
type memory struct {
	slow   time.Duration // how long Get and Create take
	subs   map[string]schemas.Subscription
	owner  string // the owner the last call was for
	trace  string // of the last subscription created
	rotate v1.RotateRequest
	dry    schemas.Subscription
	fail   error
}

func (m *memory) List(_ context.Context, owner string, _ v1.Paging) (v1.Page[schemas.Subscription], error) {
	m.owner = owner
	return v1.Page[schemas.Subscription]{Items: []schemas.Subscription{}}, m.fail
}

// wait is a service at work, which ends with its request.
func (m *memory) wait(ctx context.Context) error {
	select {
	case <-time.After(m.slow):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (m *memory) Get(ctx context.Context, owner, id string) (schemas.Subscription, error) {
	if err := m.wait(ctx); err != nil {
		return schemas.Subscription{}, err
	}
	m.owner = owner
	s, ok := m.subs[id]
	if !ok {
		return s, fmt.Errorf("subscription %s: %w", id, httpapi.ErrNotFound)
	}
	return s, m.fail
}

func (m *memory) Create(ctx context.Context, owner string, s schemas.Subscription) (schemas.Subscription, bool, error) {
	m.trace = traceparent.From(ctx)
	if err := cmp.Or(m.fail, m.wait(ctx)); err != nil {
		return s, false, err
	}
	for _, old := range m.subs {
		if old.Key != "" && old.Key == s.Key {
			return old, false, nil
		}
	}
	s.ID, s.Owner, s.State = fmt.Sprintf("00000000-0000-7000-8000-%012d", len(m.subs)), owner, schemas.StateActive
	m.subs[s.ID] = s
	return s, true, nil
}

func (m *memory) Replace(_ context.Context, _, id string, s schemas.Subscription) (schemas.Subscription, error) {
	return s, m.fail
}
func (m *memory) Delete(context.Context, string, string) error { return m.fail }
func (m *memory) Pause(ctx context.Context, owner, id string) (schemas.Subscription, error) {
	return m.Get(ctx, owner, id)
}
func (m *memory) Resume(ctx context.Context, owner, id string) (schemas.Subscription, error) {
	return m.Get(ctx, owner, id)
}
func (m *memory) Test(context.Context, string, string) (string, error) { return "e", m.fail }
func (m *memory) Current(context.Context, string, string) (int, error) { return 0, m.fail }
func (m *memory) Rotate(ctx context.Context, owner, id string, r v1.RotateRequest) (schemas.Subscription, error) {
	m.rotate = r
	return m.Get(ctx, owner, id)
}
func (m *memory) DryRun(_ context.Context, _ string, s schemas.Subscription, n int) (v1.DryRun, error) {
	m.dry = s
	return v1.DryRun{Events: n, Sample: []string{}}, m.fail
}

// blobs swallows uploads and counts their bytes.
type blobs struct{}

func (blobs) Put(_ context.Context, digest string, r io.Reader) (v1.Blob, error) {
	n, err := io.Copy(io.Discard, r)
	return v1.Blob{Digest: digest, Size: n}, err
}

func (blobs) Stat(_ context.Context, digest string) (v1.Blob, error) {
	return v1.Blob{}, httpapi.ErrNotFound
}

// feeds swallows archives.
type feeds struct{ httpapi.Updaters }

func (feeds) Import(_ context.Context, r io.Reader) (v1.ImportResult, error) {
	_, err := io.Copy(io.Discard, r)
	return v1.ImportResult{Updaters: 1}, err
}

type fixture struct {
	*httptest.Server
	mem    *memory
	tokens map[string]string
}

func newServer(t *testing.T) *fixture { return newServerWith(t, 0) }

func newServerWith(t *testing.T, bodyTimeout time.Duration) *fixture {
	t.Helper()
	store := access.NewStore(postgrestest.New(t))
	f := &fixture{mem: &memory{subs: map[string]schemas.Subscription{}}, tokens: map[string]string{}}
	for name, scopes := range map[string][]access.Scope{
		"admin": {access.Admin}, "reader": {access.Read}, "team": {access.Subscriptions}, "ci": {access.Publish},
	} {
		_, secret, err := store.Create(t.Context(), name, "", scopes, nil)
		if err != nil {
			t.Fatal(err)
		}
		f.tokens[name] = secret
	}
	h := httpapi.New(httpapi.Options{
		Services: httpapi.Services{Subscriptions: f.mem, Blobs: blobs{}, Tokens: store, Updaters: feeds{}},
		Gate:     access.NewGate(store, time.Now),
		Schemas:  fstest.MapFS{"events/ping.v1.json": {Data: []byte(`{}`)}},
		MaxLayer: 1 << 20, MaxImport: 2 << 20, BodyTimeout: bodyTimeout,
		Version: v1.Version{Version: "1.2.3"},
	})
	f.Server = httptest.NewUnstartedServer(h)
	f.Config = httpapi.Serve(h, slog.New(slog.DiscardHandler))
	f.Start()
	t.Cleanup(f.Close)
	return f
}

const bodyTimeout = 300 * time.Millisecond

// TestSlowAnswersAreNoSlowRequests: the deadline for a body says nothing about
// the time an answer may take.
func TestSlowAnswersAreNoSlowRequests(t *testing.T) {
	t.Parallel()
	f := newServerWith(t, bodyTimeout)
	f.mem.slow = 3 * bodyTimeout
	if r := f.do(t, "team", "POST", "/api/v1/subscriptions", "application/json", `{"sink":"https://x.example"}`); r.status != 201 {
		t.Errorf("a slow answer: %d %s", r.status, r.body)
	}
	for id := range f.mem.subs {
		if r := f.do(t, "team", "GET", "/api/v1/subscriptions/"+id, "", ""); r.status != 200 {
			t.Errorf("a slow answer to a request without a body: %d %s", r.status, r.body)
		}
	}
}

// TestRequestsCarryTheirTrace: what a request causes belongs to the trace that its
// header names.
func TestRequestsCarryTheirTrace(t *testing.T) {
	t.Parallel()
	f := newServer(t)
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.URL+"/api/v1/subscriptions", strings.NewReader(`{"sink":"https://x.example"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+f.tokens["team"])
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(traceparent.Header, parent)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusCreated || f.mem.trace != parent {
		t.Errorf("%s, in the trace %q; want %q", resp.Status, f.mem.trace, parent)
	}
}

func TestSlowBodiesAreCutOff(t *testing.T) {
	t.Parallel()
	f := newServerWith(t, bodyTimeout)
	body, w := io.Pipe()
	defer w.Close()
	go w.Write([]byte(`{"sink":`)) // and no more
	req, _ := http.NewRequest("POST", f.URL+"/api/v1/subscriptions", body)
	req.Header.Set("Authorization", "Bearer "+f.tokens["team"])
	req.Header.Set("Content-Type", "application/json")
	begin := time.Now()
	if r := send(t, req); r.status != 408 && r.status != 400 {
		t.Errorf("%d %s", r.status, r.body)
	}
	if d := time.Since(begin); d < bodyTimeout || d > 20*bodyTimeout {
		t.Errorf("cut off after %s", d)
	}
}

type reply struct {
	status int
	header http.Header
	body   []byte
}

func (f *fixture) do(t *testing.T, token, method, path, contentType, body string) reply {
	t.Helper()
	req, err := http.NewRequest(method, f.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+f.tokens[token])
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	return send(t, req)
}

func send(t *testing.T, req *http.Request) reply {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, b}
}

// TestBadInput is every kind of wrong request: each is a problem that says
// what is wrong and where, and never repeats a secret.
func TestBadInput(t *testing.T) {
	t.Parallel()
	f := newServer(t)
	const js = "application/json"
	id := "00000000-0000-7000-8000-000000000000"
	for _, c := range []struct {
		what, token, method, path, ct, body string
		status                              int
		location                            string // of the first error, if any
	}{
		{"no token", "", "GET", "/api/v1/subscriptions", "", "", 401, ""},
		{"scope missing", "ci", "GET", "/api/v1/subscriptions", "", "", 403, ""},
		{"scope missing to write", "reader", "POST", "/api/v1/subscriptions", js, `{"sink":"https://x.example"}`, 403, ""},
		{"scope missing for tokens", "team", "GET", "/api/v1/tokens", "", "", 403, ""},
		{"no such path", "admin", "GET", "/api/v1/nothing", "", "", 404, ""},
		{"no such method", "admin", "PATCH", "/api/v1/subscriptions", js, `{}`, 405, ""},
		{"unknown query", "admin", "GET", "/api/v1/subscriptions?limt=3", "", "", 422, "query.limt"},
		{"limit not a number", "admin", "GET", "/api/v1/subscriptions?limit=many", "", "", 422, "query.limit"},
		{"limit too big", "admin", "GET", "/api/v1/subscriptions?limit=501", "", "", 422, "query.limit"},
		{"limit nothing", "admin", "GET", "/api/v1/subscriptions?limit=0", "", "", 422, "query.limit"},
		{"id no uuid", "admin", "GET", "/api/v1/subscriptions/1", "", "", 422, "path.id"},
		{"id unknown", "admin", "GET", "/api/v1/subscriptions/" + id, "", "", 404, ""},
		{"no body", "team", "POST", "/api/v1/subscriptions", js, "", 400, ""},
		{"not json", "team", "POST", "/api/v1/subscriptions", js, `{"sink":`, 400, "body"},
		{"form", "team", "POST", "/api/v1/subscriptions", "application/x-www-form-urlencoded", "sink=x", 415, "body"},
		{"text", "team", "POST", "/api/v1/subscriptions", "text/plain", `{"sink":"https://x.example"}`, 415, "body"},
		{"array", "team", "POST", "/api/v1/subscriptions", js, `[]`, 422, "body"},
		{"null", "team", "POST", "/api/v1/subscriptions", js, `null`, 422, "body"},
		{"no sink", "team", "POST", "/api/v1/subscriptions", js, `{}`, 422, "body"},
		{"empty sink", "team", "POST", "/api/v1/subscriptions", js, `{"sink":""}`, 422, "body.sink"},
		{"long sink", "team", "POST", "/api/v1/subscriptions", js, `{"sink":"` + strings.Repeat("x", 2049) + `"}`, 422, "body.sink"},
		{"unknown field", "team", "POST", "/api/v1/subscriptions", js, `{"sink":"https://x.example","filter":[]}`, 422, "body.filter"},
		{"field of another type", "team", "POST", "/api/v1/subscriptions", js, `{"sink":"https://x.example","types":"all"}`, 422, "body.types"},
		{"secret of another type", "team", "POST", "/api/v1/subscriptions", js, `{"sink":"https://x.example","secret":["whsec_hush"]}`, 422, "body.secret"},
		{"credential unknown field", "team", "POST", "/api/v1/subscriptions", js, `{"sink":"https://x.example","sinkcredential":{"credentialtype":"PLAIN","pass":"hush"}}`, 422, "body.sinkcredential.pass"},
		{"nested filter", "team", "POST", "/api/v1/subscriptions", js, `{"sink":"https://x.example","filters":[{"all":[{"sql":1}]}]}`, 422, "body.filters[0].all[0].sql"},
		{"duration", "team", "POST", "/api/v1/subscriptions", js, `{"sink":"https://x.example","config":{"timeout":"soon"}}`, 422, "body.config.timeout"},
		{"too big", "team", "POST", "/api/v1/subscriptions", js, `{"sink":"` + strings.Repeat("x", 5<<20) + `"}`, 413, ""},
		{"kind of a list", "admin", "GET", "/api/v1/events/" + id + "/findings?kind=all&limit=5", "", "", 422, "query.kind"},
		{"list of deliveries", "admin", "GET", "/api/v1/deliveries?subscription=x&limit=5", "", "", 422, "query.subscription"},
		{"absent list of deliveries", "admin", "GET", "/api/v1/deliveries?event=" + id + "&state=dead&since=2026-01-01T00:00:00Z&limit=5&cursor=x", "", "", 503, ""},
		{"replay of everything", "admin", "POST", "/api/v1/deliveries/replay?since=never", "", "", 422, "query.since"},
		{"diff without refs", "admin", "GET", "/api/v1/diff?limit=5", "", "", 422, "query.prev"},
		{"rotate", "team", "POST", "/api/v1/subscriptions/" + id + "/rotate", js, `{"kind":"v2"}`, 422, "body.kind"},
		{"token scopes", "admin", "POST", "/api/v1/tokens", js, `{"name":"x","scopes":["root"]}`, 422, "body.scopes[0]"},
		{"token without scopes", "admin", "POST", "/api/v1/tokens", js, `{"name":"x","scopes":[]}`, 422, "body.scopes"},
		{"token past", "admin", "POST", "/api/v1/tokens", js, `{"name":"x","scopes":["read"],"expires_at":"2001-01-01T00:00:00Z"}`, 422, "body.expires_at"},
		{"token unknown", "admin", "DELETE", "/api/v1/tokens/" + id, "", "", 404, ""},
		{"role absent", "admin", "GET", "/api/v1/images", "", "", 503, ""},
		{"upload without token", "", "PUT", "/api/v1/layers/sha256:00", "", "x", 401, ""},
		{"archive too big", "admin", "POST", "/api/v1/updaters/import", "", strings.Repeat("x", 2<<20+1), 413, ""},
		{"upload too big", "ci", "PUT", "/api/v1/layers/sha256:00", "", strings.Repeat("x", 1<<20+1), 413, ""},
		{"import by a publisher", "ci", "POST", "/api/v1/updaters/import", "", "x", 403, ""},
		{"upload as text", "ci", "PUT", "/api/v1/layers/sha256:00", "text/plain", "x", 415, ""},
		{"schema unknown", "", "GET", "/schemas/../../etc/passwd", "", "", 404, ""},
	} {
		r := f.do(t, c.token, c.method, c.path, c.ct, c.body)
		if r.status != c.status {
			t.Errorf("%s: status %d, want %d: %.300s", c.what, r.status, c.status, r.body)
			continue
		}
		var p struct {
			Status int
			Detail string
			Errors []struct{ Location, Message string }
		}
		if err := json.Unmarshal(r.body, &p); err != nil || r.header.Get("Content-Type") != "application/problem+json" || p.Status != c.status || p.Detail == "" {
			t.Errorf("%s: not a problem: %s %.300s", c.what, r.header.Get("Content-Type"), r.body)
			continue
		}
		if c.location != "" && (len(p.Errors) == 0 || p.Errors[0].Location != c.location) {
			t.Errorf("%s: errors %+v, want one at %s", c.what, p.Errors, c.location)
		}
		if bytes.Contains(r.body, []byte("hush")) {
			t.Errorf("%s: the problem tells the secret: %s", c.what, r.body)
		}
		if len(r.body) > 4096 {
			t.Errorf("%s: the problem is %d bytes long", c.what, len(r.body))
		}
	}
}

func TestServiceErrorsBecomeProblems(t *testing.T) {
	t.Parallel()
	f := newServer(t)
	for _, c := range []struct {
		err    error
		status int
		body   string
	}{
		{fmt.Errorf("create: %w", errors.Join(&httpapi.FieldError{Field: "/filters/0/sql", Message: "unknown operator at 3", Value: "a ? b"}, &httpapi.FieldError{Field: "sink", Message: "refused", Value: "http://u:p@x"})),
			422, `"location":"body.filters[0].sql"`},
		{fmt.Errorf("x: %w", httpapi.ErrConflict), 409, "conflict"},
		{httpapi.ErrUnavailable, 503, "unavailable"},
		{errors.New("pq: password is hunter2"), 500, "its log says more"},
	} {
		f.mem.fail = c.err
		r := f.do(t, "team", "POST", "/api/v1/subscriptions", "application/json", `{"sink":"https://x.example"}`)
		if r.status != c.status || !bytes.Contains(r.body, []byte(c.body)) || bytes.Contains(r.body, []byte("hunter2")) || bytes.Contains(r.body, []byte("u:p@")) {
			t.Errorf("%v: %d %s", c.err, r.status, r.body)
		}
	}
}

func TestSubscriptionsAreTheirOwners(t *testing.T) {
	t.Parallel()
	f := newServer(t)
	r := f.do(t, "team", "POST", "/api/v1/subscriptions", "application/json", `{"sink":"https://x.example","config":{"timeout":"5s"}}`)
	var sub schemas.Subscription
	if err := json.Unmarshal(r.body, &sub); err != nil || r.status != 201 || sub.Owner != "team" {
		t.Fatalf("%d %s", r.status, r.body)
	}
	if got := r.header.Get("Location"); got != "/api/v1/subscriptions/"+sub.ID {
		t.Errorf("Location %q", got)
	}
	for token, owner := range map[string]string{"team": "team", "reader": "reader", "admin": ""} {
		f.mem.owner = "?"
		if r := f.do(t, token, "GET", "/api/v1/subscriptions/"+sub.ID, "", ""); r.status != 200 || f.mem.owner != owner {
			t.Errorf("%s asked as owner %q (%d)", token, f.mem.owner, r.status)
		}
	}
	for range 2 {
		req, _ := http.NewRequest("POST", f.URL+"/api/v1/subscriptions", strings.NewReader(`{"sink":"https://y.example"}`))
		req.Header.Set("Authorization", "Bearer "+f.tokens["team"])
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Idempotency-Key", "k")
		r = send(t, req)
	}
	if r.status != 200 || len(f.mem.subs) != 2 {
		t.Errorf("the second creation with one key: %d, %d subscriptions", r.status, len(f.mem.subs))
	}
}

// 0 differs from absent in a request to rotate a secret.
func TestRotateIsHandedOver(t *testing.T) {
	t.Parallel()
	f := newServer(t)
	for body, want := range map[string]int{`{}`: -1, `{"overlap_seconds":0}`: 0, `{"kind":"v1a","overlap_seconds":60}`: 60} {
		f.mem.rotate = v1.RotateRequest{Overlap: new(-2)}
		if r := f.do(t, "admin", "POST", "/api/v1/subscriptions/0198c0de-0a1b-7c2d-8e3f-4a5b6c7d8e9f/rotate", "application/json", body); r.status != 404 { // there is none, but it was asked
			t.Errorf("%s: %d %s", body, r.status, r.body)
		}
		got := -1
		if o := f.mem.rotate.Overlap; o != nil {
			got = *o
		}
		if got != want || strings.Contains(body, "v1a") != (f.mem.rotate.Kind == "v1a") {
			t.Errorf("%s: overlap %d, want %d; %+v", body, got, want, f.mem.rotate)
		}
	}
}

func TestTokenLifeOverHTTP(t *testing.T) {
	t.Parallel()
	f := newServer(t)
	r := f.do(t, "admin", "POST", "/api/v1/tokens", "application/json", `{"name":"new","scopes":["subscriptions","read"]}`)
	var tok v1.Token
	if err := json.Unmarshal(r.body, &tok); err != nil || r.status != 201 || !strings.HasPrefix(tok.Secret, access.Prefix) {
		t.Fatalf("%d %s", r.status, r.body)
	}
	f.tokens["new"] = tok.Secret
	if r := f.do(t, "new", "GET", "/api/v1/version", "", ""); r.status != 200 || !bytes.Contains(r.body, []byte("1.2.3")) {
		t.Errorf("%d %s", r.status, r.body)
	}
	r = f.do(t, "admin", "GET", "/api/v1/tokens", "", "")
	if !bytes.Contains(r.body, []byte(tok.ID)) || bytes.Contains(r.body, []byte(tok.Secret)) {
		t.Errorf("list: %s", r.body)
	}
	if r := f.do(t, "admin", "DELETE", "/api/v1/tokens/"+tok.ID, "", ""); r.status != 204 {
		t.Errorf("%d %s", r.status, r.body)
	}
	if r := f.do(t, "new", "GET", "/api/v1/version", "", ""); r.status != 401 || r.header.Get("WWW-Authenticate") == "" {
		t.Errorf("a revoked token: %d", r.status)
	}
}

func TestWrongTokensAreSlowedDown(t *testing.T) {
	t.Parallel()
	f := newServer(t)
	f.tokens["wrong"] = "tocsin_nonsense"
	seen := map[int]int{}
	for range 40 {
		seen[f.do(t, "wrong", "GET", "/api/v1/version", "", "").status]++
	}
	if seen[429] == 0 || seen[401] < 4 || seen[401]+seen[429] != 40 {
		t.Errorf("statuses %v", seen)
	}
	if r := f.do(t, "admin", "GET", "/api/v1/version", "", ""); r.status != 200 {
		t.Errorf("the right token from that address: %d", r.status)
	}
}

func TestUploadStreams(t *testing.T) {
	t.Parallel()
	f := newServer(t)
	r := f.do(t, "ci", "PUT", "/api/v1/layers/sha256:00", "application/octet-stream", strings.Repeat("x", 1<<20))
	if r.status != 200 || !bytes.Contains(r.body, []byte(`"size":1048576`)) {
		t.Errorf("%d %s", r.status, r.body)
	}
	r = f.do(t, "admin", "POST", "/api/v1/updaters/import", "application/octet-stream", strings.Repeat("x", 1<<20+1))
	if r.status != 200 {
		t.Errorf("an archive over the limit of layers: %d %s", r.status, r.body)
	}
	if r := f.do(t, "ci", "HEAD", "/api/v1/layers/sha256:00", "", ""); r.status != 404 {
		t.Errorf("HEAD: %d", r.status)
	}
}

func TestOtherOriginsAreRefused(t *testing.T) {
	t.Parallel()
	f := newServer(t)
	req, _ := http.NewRequest("POST", f.URL+"/api/v1/subscriptions", strings.NewReader(`{"sink":"https://x.example"}`))
	req.Header.Set("Authorization", "Bearer "+f.tokens["team"])
	req.Header.Set("Origin", "https://evil.example")
	if r := send(t, req); r.status != 403 {
		t.Errorf("%d", r.status)
	}
}

func TestDocumentsArePublicAndComplete(t *testing.T) {
	t.Parallel()
	f := newServer(t)
	r := f.do(t, "", "GET", "/openapi.json", "", "")
	var doc struct {
		Paths map[string]map[string]struct {
			OperationID string   `json:"operationId"`
			Scope       []string `json:"x-scope"`
		}
	}
	if err := json.Unmarshal(r.body, &doc); err != nil || r.status != 200 {
		t.Fatalf("%d %v", r.status, err)
	}
	ids := map[string]bool{}
	for path, ops := range doc.Paths {
		for method, op := range ops {
			if ids[op.OperationID] {
				t.Errorf("%s is there twice", op.OperationID)
			}
			ids[op.OperationID] = true
			if method == "parameters" {
				continue
			}
			path := strings.NewReplacer("{id}", "00000000-0000-7000-8000-000000000000", "{ref}", "x", "{digest}", "x").Replace(path)
			if r := f.do(t, "", strings.ToUpper(method), path, "", ""); r.status != 401 {
				t.Errorf("%s %s without a token: %d", method, path, r.status)
			}
		}
	}
	if len(ids) < 40 {
		t.Errorf("only %d operations", len(ids))
	}
	if r := f.do(t, "", "GET", "/schemas/events/ping.v1.json", "", ""); r.status != 200 || r.header.Get("Content-Type") != "application/schema+json" {
		t.Errorf("schema: %d %s", r.status, r.header.Get("Content-Type"))
	}
	if r := f.do(t, "", "GET", "/openapi.yaml", "", ""); r.status != 200 {
		t.Errorf("openapi.yaml: %d", r.status)
	}
}

func TestRequestID(t *testing.T) {
	t.Parallel()
	f := newServer(t)
	for given, kept := range map[string]bool{"abc-1.2_X": true, "a b": false, "": false, strings.Repeat("a", 65): false} {
		req, _ := http.NewRequest("GET", f.URL+"/", nil)
		req.Header.Set("X-Request-Id", given)
		r := send(t, req)
		if got := r.header.Get("X-Request-Id"); got == "" || (got == given) != kept {
			t.Errorf("given %q, got %q", given, got)
		}
	}
}

// TestAlive: a load balancer has no token.
func TestAlive(t *testing.T) {
	t.Parallel()
	f := newServer(t)
	if r := f.do(t, "", "GET", "/healthz", "", ""); r.status != 200 || string(r.body) != "ok\n" {
		t.Errorf("%d %s", r.status, r.body)
	}
}
