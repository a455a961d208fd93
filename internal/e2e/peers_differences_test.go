//go:build peers

package e2e

import (
	"fmt"
	"net/http"
	"strings"
)

// difference is one request of Clair's API and what both programs answer it
// with. Where they differ, the table in docs/clair.md says so.
type difference struct {
	name            string
	notifier        bool // of Clair's, which is a process of its own here
	method, path    string
	body            string
	headers         []string // names and values in turns
	clair, tocsin   int
	answer          string // a header of the answer, as "Name: Clair's / Tocsin's"
	withoutPassword bool
}

func differences(state string) []difference {
	const unknown = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
	const report, notification = "/indexer/api/v1/index_report", "/notifier/api/v1/notification/"
	const id = "6a1d1c5e-0d3c-4c26-8f0e-1d6f5f3a0b11"
	layer := func(uri string) string {
		return fmt.Sprintf(`{"hash":%q,"layers":[{"hash":%q,"uri":%q,"headers":{}}]}`, strings.Replace(unknown, "0", "1", 1), unknown, uri)
	}
	return []difference{
		{name: "state", method: "GET", path: "/indexer/api/v1/index_state", clair: 200, tocsin: 200},
		{name: "state, wrong method", method: "PUT", path: "/indexer/api/v1/index_state", clair: 405, tocsin: 405},
		{name: "state, no token", method: "GET", path: "/indexer/api/v1/index_state", withoutPassword: true, clair: 401, tocsin: 401},
		{name: "state, deflate", method: "GET", path: "/indexer/api/v1/index_state", headers: []string{"Accept-Encoding", "deflate"}, clair: 200, tocsin: 200, answer: "Content-Encoding: deflate / "},
		{name: "unknown report", method: "GET", path: report + "/" + unknown, clair: 404, tocsin: 404},
		{name: "unknown report, state known", method: "GET", path: report + "/" + unknown, headers: []string{"If-None-Match", state}, clair: 304, tocsin: 404},
		{name: "report of no digest", method: "GET", path: report + "/nothing", clair: 400, tocsin: 400},
		{name: "index, no JSON", method: "POST", path: report, body: "{", clair: 400, tocsin: 400},
		{name: "index, no layers", method: "POST", path: report, body: `{"hash":"` + unknown + `"}`, clair: 400, tocsin: 400},
		{name: "index, a file", method: "POST", path: report, body: layer("file:///etc/passwd"), clair: 500, tocsin: 400},
		{name: "index, nobody there", method: "POST", path: report, body: layer("http://127.0.0.1:1/"), clair: 500, tocsin: 500},
		{name: "delete, unknown", method: "DELETE", path: report, body: `["` + unknown + `"]`, clair: 200, tocsin: 200},
		{name: "vulnerabilities, unknown", method: "GET", path: "/matcher/api/v1/vulnerability_report/" + unknown, clair: 404, tocsin: 404},
		{name: "operations, unknown kind", method: "GET", path: "/matcher/api/v1/internal/update_operation?kind=x", clair: 400, tocsin: 400},
		{name: "affected, no JSON", method: "POST", path: "/indexer/api/v1/internal/affected_manifest/", body: "{", clair: 400, tocsin: 400},
		{name: "notification, no id", notifier: true, method: "GET", path: notification + "x", clair: 400, tocsin: 400},
		{name: "notification, unknown", notifier: true, method: "GET", path: notification + id, clair: 200, tocsin: 200},
		{name: "notification, a page of 0", notifier: true, method: "GET", path: notification + id + "?page_size=0", clair: 200, tocsin: 400},
		{name: "notification, a page of -1", notifier: true, method: "GET", path: notification + id + "?page_size=-1", clair: 500, tocsin: 400},
		{name: "notification, next is no id", notifier: true, method: "GET", path: notification + id + "?next=x", clair: 400, tocsin: 400},
		{name: "notification, delete unknown", notifier: true, method: "DELETE", path: notification + id, clair: 500, tocsin: 404},
	}
}

// compare asks both programs the same.
func (p *peers) compare() {
	if p.clair == "" {
		return
	}
	ask := func(base string, d difference) (int, string, error) {
		req, err := http.NewRequest(d.method, base+d.path, strings.NewReader(d.body))
		if err != nil {
			return 0, "", err
		}
		if !d.withoutPassword {
			req.Header.Set("Authorization", "Bearer "+token())
		}
		for i := 0; i < len(d.headers); i += 2 {
			req.Header.Set(d.headers[i], d.headers[i+1])
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			return 0, "", err
		}
		defer resp.Body.Close()
		header, _, _ := strings.Cut(d.answer, ": ")
		return resp.StatusCode, resp.Header.Get(header), nil
	}
	state := map[string]string{}
	for _, base := range []string{p.clair, p.base()} {
		req, err := http.NewRequest("GET", base+"/indexer/api/v1/index_state", nil)
		if err != nil {
			p.t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token())
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			p.t.Fatal(err)
		}
		resp.Body.Close()
		state[base] = resp.Header.Get("Etag")
	}
	for i := range differences("") {
		theirs, ours := differences(state[p.clair])[i], differences(state[p.base()])[i]
		at := p.clair
		if theirs.notifier {
			at = p.notifier
		}
		if at == "" {
			continue
		}
		_, want, _ := strings.Cut(ours.answer, ": ")
		wantTheirs, wantOurs, _ := strings.Cut(want, " / ")
		status, header, err := ask(at, theirs)
		if err == nil && (status != theirs.clair || header != wantTheirs) {
			err = fmt.Errorf("Clair answers %d %q, not %d %q", status, header, theirs.clair, wantTheirs)
		}
		if err == nil {
			status, header, err = ask(p.base(), ours)
			if err == nil && (status != ours.tocsin || header != wantOurs) {
				err = fmt.Errorf("Tocsin answers %d %q, not %d %q", status, header, ours.tocsin, wantOurs)
			}
		}
		p.check("the same request of both: "+ours.name, err)
	}
}
