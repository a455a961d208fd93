package app

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"tocsin.dev/tocsin/internal/access"
	"tocsin.dev/tocsin/internal/bus/bustest"
	"tocsin.dev/tocsin/internal/config"
	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/internal/postgres/postgrestest"
	"tocsin.dev/tocsin/schemas"
)

// rule says who may do what a route does.
type rule struct {
	public bool           // anybody, without a token
	token  bool           // whoever has a valid token
	scopes []access.Scope // who has one of these; admin is always one
	owned  string         // what the id in the path names: another owner's is not found
	lists  bool           // what it answers is of the token's owner alone
	body   string
}

var (
	public    = rule{public: true}
	anyToken  = rule{token: true}
	admin     = rule{scopes: []access.Scope{}}
	reads     = rule{scopes: []access.Scope{access.Read}}
	publishes = rule{scopes: []access.Scope{access.Publish}}
	looks     = rule{scopes: []access.Scope{access.Read, access.Publish}}
	sees      = rule{scopes: []access.Scope{access.Read, access.Subscriptions}}
	changes   = rule{scopes: []access.Scope{access.Subscriptions}}
)

func (r rule) of(owned string) rule { r.owned = owned; return r }

func (r rule) own() rule { r.lists = true; return r }

func (r rule) with(body string) rule { r.body = body; return r }

// rules is the whole table: a route that is not in it fails the test.
var rules = map[string]rule{
	"GET /{$}": public, "/": public, "GET /schemas/": public, "GET /robots.txt": public, "GET /healthz": public,
	"/ui/":              public, // TestPagesWantASession
	"GET /openapi.json": public, "GET /openapi.yaml": public, "GET /openapi-3.0.json": public, "GET /openapi-3.0.yaml": public,

	"GET /api/v1/version": anyToken,

	"GET /api/v1/images": looks, "GET /api/v1/manifests": looks, "GET /api/v1/images/{ref}": looks, "GET /api/v1/manifests/{ref}": looks,
	"GET /api/v1/images/{ref}/report": looks, "GET /api/v1/manifests/{ref}/report": looks,
	"POST /api/v1/images": publishes, "POST /api/v1/manifests": publishes,
	"DELETE /api/v1/images/{ref}": publishes, "DELETE /api/v1/manifests/{ref}": publishes,
	"PUT /api/v1/layers/{digest}": publishes, "HEAD /api/v1/layers/{digest}": publishes,
	"GET /api/v1/jobs": looks, "GET /api/v1/jobs/{id}": looks, "POST /api/v1/jobs/{id}/retry": publishes,

	"GET /api/v1/vulnerabilities/{id}/manifests": reads, "GET /api/v1/diff": reads, "GET /api/v1/updaters": reads,
	"POST /api/v1/updates": publishes.with(`{"set":"nosuch"}`), "POST /api/v1/updaters/import": admin,

	"GET /api/v1/events": reads.own(), "GET /api/v1/events/{id}": reads.of("event"),
	"GET /api/v1/events/{id}/findings": reads, "GET /api/v1/events/{id}/manifests": reads,

	"GET /api/v1/subscriptions": sees.own(), "POST /api/v1/subscriptions": changes.with(`{"sink":"gopher://x"}`),
	"POST /api/v1/subscriptions/dry-run":      sees.with(`{"sink":"http://127.0.0.1:9/"}`),
	"GET /api/v1/subscriptions/{id}":          sees.of("subscription"),
	"PUT /api/v1/subscriptions/{id}":          changes.of("subscription").with(`{"sink":"http://127.0.0.1:9/other","config":{"paused":true}}`),
	"DELETE /api/v1/subscriptions/{id}":       changes.of("subscription"),
	"POST /api/v1/subscriptions/{id}/pause":   changes.of("subscription"),
	"POST /api/v1/subscriptions/{id}/resume":  changes.of("subscription"),
	"POST /api/v1/subscriptions/{id}/test":    changes.of("subscription"),
	"POST /api/v1/subscriptions/{id}/current": changes.of("subscription"),
	"POST /api/v1/subscriptions/{id}/rotate":  changes.of("subscription").with(`{}`),

	"GET /api/v1/deliveries": sees.own(), "GET /api/v1/deliveries/{id}": sees.of("delivery"), "GET /api/v1/deliveries/{id}/attempts": sees.of("delivery"),
	"POST /api/v1/deliveries/{id}/replay": changes.of("delivery"), "POST /api/v1/deliveries/{id}/drop": changes.of("delivery"),
	"POST /api/v1/deliveries/replay": changes, "POST /api/v1/deliveries/drop": changes,
	"GET /api/v1/stats": sees.own(),

	"GET /api/v1/audit": admin, "GET /api/v1/doctor": admin, "GET /api/v1/tokens": admin, "POST /api/v1/tokens": admin.with(`{"name":"x","scopes":["nosuch"]}`), "DELETE /api/v1/tokens/{id}": admin,

	"GET /api/v1/follows": looks, "POST /api/v1/follows": publishes.with(`{"image":"x@y"}`), "DELETE /api/v1/follows/{ref}": publishes,
	"POST /ingest/{kind}": publishes.with(`{"events":[]}`),

	"POST /indexer/api/v1/index_report": publishes.with(`{`), "DELETE /indexer/api/v1/index_report": publishes.with(`[]`),
	"GET /indexer/api/v1/index_report/{digest}": looks, "DELETE /indexer/api/v1/index_report/{digest}": publishes,
	"GET /indexer/api/v1/index_state":                        looks,
	"POST /indexer/api/v1/internal/affected_manifest/{$}":    reads.with(`{`),
	"GET /matcher/api/v1/vulnerability_report/{digest}":      looks,
	"GET /matcher/api/v1/internal/update_operation":          looks,
	"DELETE /matcher/api/v1/internal/update_operation/{ref}": admin,
	"GET /matcher/api/v1/internal/update_diff":               looks,
	"GET /notifier/api/v1/notification/{id}":                 looks,
	"DELETE /notifier/api/v1/notification/{id}":              {scopes: []access.Scope{access.Publish, access.Subscriptions}},
	"GET /openapi/v1": looks,
}

// site is a process with all its parts on a database and a NATS server of its own,
// none of its roles running, and tokens of all kinds.
type site struct {
	t      *testing.T
	pool   *pgxpool.Pool
	s      *services
	tokens map[string]string
	n      int
}

// The owners: a has what b must not see.
const ownerA, ownerB = "team-a", "team-b"

// siteSecret is the secret of GitHub's webhooks.
const siteSecret = "a secret of webhooks"

// canary is in the name and the host's path of what belongs to ownerA.
const canary = "canary-of-team-a"

func newSite(t *testing.T) *site {
	t.Helper()
	c := Defaults()
	c.DataDir = t.TempDir()
	c.Updaters.Sets = []string{"osv"}
	if err := c.Ingest.GitHubSecret.UnmarshalText([]byte(siteSecret)); err != nil {
		t.Fatal(err)
	}
	c.Delivery.AllowNetworks = []config.Network{{Prefix: netip.MustParsePrefix("127.0.0.0/8")}}
	pool := postgrestest.New(t)
	a := New(c, v1.Version{Version: "test"}, slog.New(slog.DiscardHandler), nil)
	s, err := a.services(t.Context(), pool, bustest.New(t))
	if err != nil {
		t.Fatal(err)
	}
	w := &site{t: t, pool: pool, s: s, tokens: map[string]string{}}
	make := func(name, owner string, expires *time.Time, scopes ...access.Scope) access.Token {
		tok, secret, err := s.tokens.Create(t.Context(), name, owner, scopes, expires)
		if err != nil {
			t.Fatal(err)
		}
		w.tokens[name] = secret
		return tok
	}
	make("admin", "", nil, access.Admin)
	for _, scope := range access.Scopes[1:] {
		make(string(scope), ownerA, nil, scope)
		make("b's "+string(scope), ownerB, nil, scope)
	}
	past := time.Now().Add(-time.Hour)
	make("expired", "", &past, access.Admin)
	if err := s.tokens.Revoke(t.Context(), make("revoked", "", nil, access.Admin).ID); err != nil {
		t.Fatal(err)
	}
	w.tokens["unknown"] = access.Prefix + strings.Repeat("A", 43)
	w.tokens["of another kind"] = "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJxdWF5In0.c2lnbmF0dXJl"
	return w
}

// object makes a thing of ownerA and returns its id.
func (w *site) object(kind string) string {
	w.t.Helper()
	ctx := w.t.Context()
	sub, _, err := w.s.subscriptions.Create(ctx, ownerA, schemas.Subscription{Name: canary, Sink: "http://127.0.0.1:9/" + canary})
	if err != nil {
		w.t.Fatal(err)
	}
	switch kind {
	case "delivery":
		if _, err := w.s.notifier.Ping(ctx, ownerA, sub.ID); err != nil {
			w.t.Fatal(err)
		}
		return w.newest(`SELECT id FROM tocsin.queue WHERE subscription_id = $1`, sub.ID)
	case "event":
		err := pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error {
			return w.s.announcer.SubscriptionFailing(ctx, tx, schemas.SubscriptionState{Subscription: sub.ID, Name: sub.Name, Sink: sub.Sink, Protocol: sub.Protocol})
		})
		if err != nil {
			w.t.Fatal(err)
		}
		return w.newest(`SELECT id FROM tocsin.event WHERE data->>'subscription' = $1 ORDER BY id DESC LIMIT 1`, sub.ID)
	}
	return sub.ID
}

func (w *site) newest(query, subscription string) string {
	w.t.Helper()
	var id uuid.UUID
	if err := w.pool.QueryRow(w.t.Context(), query, subscription).Scan(&id); err != nil {
		w.t.Fatal(err)
	}
	return id.String()
}

// ask sends a request from an address of its own, so that no budget of wrong
// tokens runs out.
func (w *site) ask(pattern, id, authorization, body string) *httptest.ResponseRecorder {
	method, path, found := strings.Cut(pattern, " ")
	if !found {
		method, path = http.MethodGet, cmp.Or(strings.TrimSuffix(pattern, "/"), "/nowhere")
	}
	digest := "sha256:" + strings.Repeat("0", 64)
	path = strings.NewReplacer("{id}", id, "{kind}", "distribution", "{ref}", digest, "{digest}", digest, "{$}", "").Replace(path)
	switch {
	case strings.HasPrefix(path, "/matcher/api/v1/internal/update_operation/"):
		path = "/matcher/api/v1/internal/update_operation/" + id
	case path == "/api/v1/diff":
		path += "?prev=" + id + "&cur=" + id
	case strings.HasSuffix(path, "/deliveries/drop"), strings.HasSuffix(path, "/deliveries/replay"):
		path += "?event=" + id
	}
	r := httptest.NewRequestWithContext(w.t.Context(), method, path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	w.n++
	r.RemoteAddr = fmt.Sprintf("198.51.%d.%d:1000", w.n/250, w.n%250)
	answer := httptest.NewRecorder()
	w.s.api.ServeHTTP(answer, r)
	return answer
}

// TestEveryRouteHasARule holds every route to the table of who may use it.
func TestEveryRouteHasARule(t *testing.T) {
	t.Parallel()
	w := newSite(t)
	patterns := w.s.api.Patterns()
	slices.Sort(patterns)
	for _, p := range patterns {
		r, ok := rules[p]
		if !ok {
			t.Errorf("%s has no rule: say in rules who may use it", p)
			continue
		}
		w.holds(p, r)
	}
	for p := range rules {
		if !slices.Contains(patterns, p) {
			t.Errorf("the rule of %q is for no route", p)
		}
	}
}

func (w *site) holds(pattern string, r rule) {
	t := w.t
	nobody := uuid.NewString()
	answers := func(who, id, authorization string, want func(int) bool, expected string) {
		t.Helper()
		if got := w.ask(pattern, id, authorization, r.body); !want(got.Code) {
			t.Errorf("%s with %s: %d, want %s: %s", pattern, who, got.Code, expected, strings.TrimSpace(got.Body.String()))
		}
	}
	letIn := func(code int) bool { return code != http.StatusUnauthorized && code != http.StatusForbidden }
	if r.public {
		answers("no token", nobody, "", letIn, "to be let in")
		return
	}
	unauthorized := func(code int) bool { return code == http.StatusUnauthorized }
	answers("no token", nobody, "", unauthorized, "401")
	answers("a login", nobody, "Basic dG9jc2luOnRvY3Npbg==", unauthorized, "401")
	answers("a token of no scheme", nobody, w.tokens["admin"], unauthorized, "401")
	for _, who := range []string{"expired", "revoked", "unknown", "of another kind"} {
		answers("a token that is "+who, nobody, "Bearer "+w.tokens[who], unauthorized, "401")
	}
	answers("admin", nobody, "Bearer "+w.tokens["admin"], letIn, "to be let in")
	for _, scope := range access.Scopes[1:] {
		if r.token || slices.Contains(r.scopes, scope) {
			answers("scope "+string(scope), nobody, "Bearer "+w.tokens[string(scope)], letIn, "to be let in")
		} else {
			answers("scope "+string(scope), nobody, "Bearer "+w.tokens[string(scope)], func(c int) bool { return c == http.StatusForbidden }, "403")
		}
	}
	for _, scope := range r.scopes {
		if r.owned != "" {
			id := w.object(r.owned)
			answers("scope "+string(scope)+" of another owner", id, "Bearer "+w.tokens["b's "+string(scope)], func(c int) bool { return c == http.StatusNotFound }, "404")
			answers("scope "+string(scope)+" of its owner", id, "Bearer "+w.tokens[string(scope)], func(c int) bool { return c < 300 }, "success")
			answers("admin", w.object(r.owned), "Bearer "+w.tokens["admin"], func(c int) bool { return c < 300 }, "success")
		}
		if r.lists {
			w.object("event")
			theirs := w.object("delivery")
			mine := w.ask(pattern, nobody, "Bearer "+w.tokens[string(scope)], "").Body.String()
			other := w.ask(pattern, nobody, "Bearer "+w.tokens["b's "+string(scope)], "").Body.String()
			if !strings.Contains(mine, canary) && !strings.Contains(mine, theirs) {
				t.Errorf("%s does not show its owner what is there: %s", pattern, mine)
			}
			if strings.Contains(other, canary) || strings.Contains(other, theirs) {
				t.Errorf("%s shows %s what is another's: %s", pattern, ownerB, other)
			}
		}
	}
}

// What an owner may not see cannot be asked for otherwise either: by a dry run, a
// bulk operation, or NATS.
func TestOwnersHaveNoOtherWay(t *testing.T) {
	t.Parallel()
	w := newSite(t)
	event, sent := w.object("event"), w.object("delivery")
	guess := `{"sink":"http://127.0.0.1:9/","filters":[{"cel":"data.sink.startsWith('http://127')"}]}`
	a := w.ask("POST /api/v1/subscriptions/dry-run", "", "Bearer "+w.tokens["subscriptions"], guess).Body.String()
	b := w.ask("POST /api/v1/subscriptions/dry-run", "", "Bearer "+w.tokens["b's subscriptions"], guess).Body.String()
	if !strings.Contains(a, event) || strings.Contains(b, event) {
		t.Errorf("a dry run shows %s %s, and %s %s", ownerA, a, ownerB, b)
	}
	var ofSent uuid.UUID
	if err := w.pool.QueryRow(t.Context(), `SELECT event_id FROM tocsin.queue WHERE id = $1`, sent).Scan(&ofSent); err != nil {
		t.Fatal(err)
	}
	bulk := func(who string) string {
		return w.ask("POST /api/v1/deliveries/drop", ofSent.String(), "Bearer "+w.tokens[who], "").Body.String()
	}
	if got := bulk("b's subscriptions"); !strings.Contains(got, `"deliveries":0`) {
		t.Errorf("another owner dropped %s", got)
	}
	if got := bulk("subscriptions"); !strings.Contains(got, `"deliveries":1`) {
		t.Errorf("the owner dropped %s", got)
	}
}
