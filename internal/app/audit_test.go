package app

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"tocsin.dev/tocsin/internal/access"
	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/schemas"
)

// entries are the audit log, oldest first, without the uses of tokens.
func (w *site) entries(query string) []v1.AuditEntry {
	w.t.Helper()
	answer := w.ask("GET /api/v1/audit"+query, "", "Bearer "+w.tokens["admin"], "")
	var page v1.Page[v1.AuditEntry]
	if err := json.Unmarshal(answer.Body.Bytes(), &page); err != nil || answer.Code != http.StatusOK {
		w.t.Fatalf("%d, %v: %s", answer.Code, err, answer.Body)
	}
	var out []v1.AuditEntry
	for _, e := range page.Items {
		if !strings.HasSuffix(e.Action, "_use") {
			out = append([]v1.AuditEntry{e}, out...)
		}
	}
	return out
}

func TestChangesAreWrittenDown(t *testing.T) {
	t.Parallel()
	w := newSite(t)
	as := func(who, pattern, id, body string, want int) string {
		t.Helper()
		answer := w.ask(pattern, id, "Bearer "+w.tokens[who], body)
		if answer.Code != want {
			t.Fatalf("%s: %d, want %d: %s", pattern, answer.Code, want, answer.Body)
		}
		return answer.Body.String()
	}
	var tok v1.Token
	if err := json.Unmarshal([]byte(as("admin", "POST /api/v1/tokens", "", `{"name":"ci","scopes":["publish"]}`, 201)), &tok); err != nil {
		t.Fatal(err)
	}
	var sub schemas.Subscription
	made := as("subscriptions", "POST /api/v1/subscriptions", "", `{"name":"pager","sink":"http://127.0.0.1:9/hunter2","key":"k"}`, 201)
	if err := json.Unmarshal([]byte(made), &sub); err != nil {
		t.Fatal(err)
	}
	as("subscriptions", "POST /api/v1/subscriptions", "", `{"name":"pager","sink":"http://127.0.0.1:9/hunter2","key":"k"}`, 200) // the same again
	as("subscriptions", "POST /api/v1/subscriptions/dry-run", "", `{"sink":"http://127.0.0.1:9/"}`, 200)
	as("subscriptions", "POST /api/v1/subscriptions/{id}/pause", sub.ID, "", 200)
	as("b's subscriptions", "POST /api/v1/subscriptions/{id}/pause", sub.ID, "", 404) // changes nothing
	as("read", "POST /api/v1/subscriptions/{id}/pause", sub.ID, "", 403)
	as("subscriptions", "PUT /api/v1/subscriptions/{id}", sub.ID, `{"name":"pager","sink":"http://127.0.0.1:9/hunter2"}`, 200)
	as("subscriptions", "POST /api/v1/subscriptions/{id}/rotate", sub.ID, `{"secret":"whsec_aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMg=="}`, 200)
	as("subscriptions", "DELETE /api/v1/subscriptions/{id}", sub.ID, "", 204)
	as("publish", "POST /api/v1/updates", "", `{"set":"osv"}`, 202)
	as("publish", "DELETE /indexer/api/v1/index_report", "", `[]`, 200)
	as("admin", "DELETE /api/v1/tokens/{id}", tok.ID, "", 204)

	type line struct {
		actor, action, object string
		status                int
	}
	want := []line{
		{"admin", "tokens.create", tok.ID, 201},
		{"subscriptions", "subscriptions.create", sub.ID, 201},
		{"subscriptions", "subscriptions.pause", sub.ID, 200},
		{"subscriptions", "subscriptions.replace", sub.ID, 200},
		{"subscriptions", "subscriptions.rotate", sub.ID, 200},
		{"subscriptions", "subscriptions.delete", sub.ID, 204},
		{"publish", "updates.create", "osv", 202},
		{"publish", "clair.index_report.delete", "", 200},
		{"admin", "tokens.delete", tok.ID, 204},
	}
	got := w.entries("")
	if len(got) != len(want) {
		t.Errorf("%d entries, want %d", len(got), len(want))
	}
	for i := range min(len(got), len(want)) {
		e := got[i]
		if e.Status == nil || (line{e.Actor, e.Action, e.Object, *e.Status}) != want[i] || e.Token == "" || e.Remote == "" || e.Request == "" {
			t.Errorf("entry %d is %+v, want %+v", i, e, want[i])
		}
	}
	all, err := json.Marshal(got)
	if err != nil || strings.Contains(string(all), "hunter2") || strings.Contains(string(all), tok.Secret) {
		t.Errorf("the log holds a secret: %s", all)
	}
	for query, n := range map[string]int{"?action=tokens": 2, "?action=tokens.create": 1, "?actor=publish": 2, "?object=" + sub.ID[:13]: 5, "?until=2020-01-01T00:00:00Z": 0} {
		if got := w.entries(query); len(got) != n {
			t.Errorf("%s: %d entries, want %d", query, len(got), n)
		}
	}
}

// What may be refused when a part of it is done is written down, however it ends:
// of an archive that ends badly, feeds are taken until there.
func TestWhatIsDoneInPartsIsWrittenDown(t *testing.T) {
	t.Parallel()
	w := newSite(t)
	for action, pattern := range map[string]string{
		"updaters.import": "POST /api/v1/updaters/import", "images.create": "POST /api/v1/images", "clair.index_report.create": "POST /indexer/api/v1/index_report",
	} {
		answer := w.ask(pattern, "", "Bearer "+w.tokens["admin"], `{"image":"x:y:z","hash":"no digest"}`)
		if answer.Code < 400 || answer.Code >= 500 {
			t.Fatalf("%s: %d, want it refused: %s", pattern, answer.Code, answer.Body)
		}
		if got := w.entries("?action=" + action); len(got) != 1 || got[0].Status == nil || *got[0].Status != answer.Code {
			t.Errorf("%s was answered %d; the log has %+v", action, answer.Code, got)
		}
	}
}

// A change that cannot be written down is not made, and one that was begun by a
// process that ended is there without an outcome.
func TestNothingIsChangedUnaudited(t *testing.T) {
	t.Parallel()
	w := newSite(t)
	if _, err := w.s.audit.Begin(t.Context(), access.Entry{Actor: "ci", Action: "images.delete", Object: "x"}); err != nil {
		t.Fatal(err)
	}
	if got := w.entries(""); len(got) != 1 || got[0].Status != nil {
		t.Errorf("%+v, want one entry without an outcome", got)
	}
	ask := func() int {
		return w.ask("POST /api/v1/tokens", "", "Bearer "+w.tokens["admin"], `{"name":"ci","scopes":["publish"]}`).Code
	}
	ask() // the use of the token is noted
	if _, err := w.pool.Exec(t.Context(), `ALTER TABLE tocsin.audit RENAME TO away`); err != nil {
		t.Fatal(err)
	}
	before, err := w.s.tokens.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if code := ask(); code != http.StatusServiceUnavailable {
		t.Errorf("without its log a change is answered %d, want 503", code)
	}
	if after, err := w.s.tokens.List(t.Context()); err != nil || len(after) != len(before) {
		t.Errorf("%d tokens, had %d, %v", len(after), len(before), err)
	}
}
