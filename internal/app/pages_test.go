package app

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"tocsin.dev/tocsin/internal/access"
)

// TestPagesWantASession asks for every page without a session, and changes
// nothing but by a form of one's own.
func TestPagesWantASession(t *testing.T) {
	t.Parallel()
	w := newSite(t)
	patterns := w.s.pages.Patterns()
	if len(patterns) < 20 {
		t.Fatalf("%d pages", len(patterns))
	}
	cookie := w.browser("admin")
	for _, p := range patterns {
		for who, c := range map[string]*http.Cookie{"nobody": nil, "a made-up cookie": {Name: cookie.Name, Value: strings.Repeat("A", 43)}} {
			got := w.visit(p, c)
			to := got.Header().Get("Location")
			switch {
			case strings.HasPrefix(p, "POST ") && got.Code == http.StatusUnauthorized:
			case got.Code == http.StatusSeeOther && strings.HasPrefix(to, "/ui/login"):
			default:
				t.Errorf("%s to %s: %d %s", p, who, got.Code, to)
			}
		}
		if strings.HasPrefix(p, "POST ") {
			if got := w.visit(p, cookie); got.Code != http.StatusForbidden {
				t.Errorf("%s without the key of a form: %d", p, got.Code)
			}
		}
	}
	for _, who := range []string{"expired", "revoked", "unknown"} {
		if got := w.login(who); got.Code != http.StatusUnauthorized || len(got.Result().Cookies()) > 0 {
			t.Errorf("a login with a token that is %s: %d", who, got.Code)
		}
	}
}

// TestPagesShowWhatIsOnesOwn looks at every page as another owner.
func TestPagesShowWhatIsOnesOwn(t *testing.T) {
	t.Parallel()
	w := newSite(t)
	ids := map[string]string{"subscriptions": w.object("subscription"), "events": w.object("event"), "deliveries": w.object("delivery")}
	for _, scope := range []access.Scope{access.Read, access.Subscriptions} {
		mine, other := w.browser(string(scope)), w.browser("b's "+string(scope))
		shown := false
		for _, p := range w.s.pages.Patterns() {
			if !strings.HasPrefix(p, "GET ") || p == "GET /ui/live" {
				continue
			}
			for kind, id := range ids {
				if strings.Contains(p, "{id}") && !strings.Contains(p, kind) {
					continue
				}
				page := strings.ReplaceAll(p, "{id}", id)
				if body := w.visit(page, other).Body.String(); strings.Contains(body, canary) {
					t.Errorf("%s shows %s what is of %s", page, ownerB, ownerA)
				}
				shown = shown || strings.Contains(w.visit(page, mine).Body.String(), canary)
			}
		}
		if !shown {
			t.Errorf("no page shows %s its own with scope %s", ownerA, scope)
		}
	}
}

// TestLiveEndsWithTheSession keeps a page open whose token is revoked.
func TestLiveEndsWithTheSession(t *testing.T) {
	t.Parallel()
	w := newSite(t)
	cookie := w.browser("read")
	ended := make(chan *httptest.ResponseRecorder, 1)
	go func() { ended <- w.visit("GET /ui/live", cookie) }()
	select {
	case got := <-ended:
		t.Fatalf("it ended at once: %d %s", got.Code, got.Body)
	case <-time.After(100 * time.Millisecond): // it is on its way, or about to be: either will do
	}
	list, err := w.s.tokens.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, tok := range list {
		if tok.Name == "read" {
			if err := w.s.tokens.Revoke(t.Context(), tok.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Error("it goes on after its token was revoked")
	}
}

func (w *site) login(who string) *httptest.ResponseRecorder {
	form := url.Values{"token": {w.tokens[who]}}
	r := httptest.NewRequestWithContext(w.t.Context(), "POST", "/ui/login", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer := httptest.NewRecorder()
	w.s.api.ServeHTTP(answer, r)
	return answer
}

// browser logs in and returns the session's cookie.
func (w *site) browser(who string) *http.Cookie {
	w.t.Helper()
	answer := w.login(who)
	if answer.Code != http.StatusSeeOther || len(answer.Result().Cookies()) != 1 {
		w.t.Fatalf("login as %s: %d", who, answer.Code)
	}
	return answer.Result().Cookies()[0]
}

func (w *site) visit(pattern string, cookie *http.Cookie) *httptest.ResponseRecorder {
	method, path, found := strings.Cut(pattern, " ")
	if !found {
		method, path = http.MethodGet, pattern
	}
	path = strings.NewReplacer("{$}", "", "{id}", uuid.NewString(), "{what}", "pause", "{ref}", "nothing").Replace(path)
	r := httptest.NewRequestWithContext(w.t.Context(), method, path, nil)
	if cookie != nil {
		r.AddCookie(cookie)
	}
	answer := httptest.NewRecorder()
	w.s.api.ServeHTTP(answer, r)
	return answer
}
