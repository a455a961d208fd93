package app

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"tocsin.dev/tocsin/internal/access"
	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/schemas"
)

// TestDoctor finds what is made wrong, one thing after the other, and nothing of
// it before.
func TestDoctor(t *testing.T) {
	t.Parallel()
	w := newSite(t)
	look := func() map[string]v1.Check {
		t.Helper()
		answer := w.ask("GET /api/v1/doctor", "", "Bearer "+w.tokens["admin"], "")
		var d v1.Doctor
		if err := json.Unmarshal(answer.Body.Bytes(), &d); err != nil || answer.Code != http.StatusOK {
			t.Fatal(answer.Code, answer.Body.String(), err)
		}
		out := map[string]v1.Check{}
		for _, c := range d.Checks {
			if _, twice := out[c.Name]; twice || c.Says == "" || (c.Status != "ok" && c.Do == "") {
				t.Errorf("check %+v: is there twice, or says too little", c)
			}
			out[c.Name] = c
		}
		return out
	}
	before := look()
	for _, name := range []string{"postgres.version", "clock", "nats", "disk", "tokens", "deliveries"} {
		if before[name].Status != "ok" {
			t.Errorf("%s of a site that is well: %+v", name, before[name])
		}
	}

	exec := func(query string) {
		t.Helper()
		if _, err := w.pool.Exec(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	sub, _, err := w.s.subscriptions.Create(t.Context(), ownerA, schemas.Subscription{Name: "ours", Sink: "http://127.0.0.1:9/"})
	if err != nil {
		t.Fatal(err)
	}
	exec(`UPDATE tocsin.subscription SET state = 'disabled' WHERE id = '` + sub.ID + `'`)
	exec(`INSERT INTO tocsin.updater_run (set_name, updater, started_at, result, error, failures) VALUES ('osv', 'osv/go', now(), 'failed', 'no such host', 3)`)
	exec(`INSERT INTO tocsin.job (kind, key, payload, created_at) VALUES ('manifest', 'x', '{}', now() - interval '1 hour')`)
	if _, _, err := w.s.tokens.Create(t.Context(), "another", "", []access.Scope{access.Admin}, nil); err != nil {
		t.Fatal(err)
	}
	w.s.doctor.now = func() time.Time { return time.Now().Add(time.Hour) }
	after := look()
	for name, says := range map[string]string{
		"feeds.osv": "no such host", "jobs.manifest": "queued for", "tokens": "never end", "clock": "apart", "subscription ours": "disabled",
	} {
		if c := after[name]; c.Status == "ok" || !strings.Contains(c.Says, says) {
			t.Errorf("%s after it was made wrong: %+v", name, c)
		}
	}
}
