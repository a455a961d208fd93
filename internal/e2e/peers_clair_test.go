//go:build peers

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func (p *peers) clairctlConfig() string {
	file := filepath.Join(p.dir, "clairctl.yaml")
	text := fmt.Sprintf("http_listen_addr: 127.0.0.1:1\nauth: {psk: {key: %q, iss: [clairctl]}}\n", peerKey)
	// clairctl signs for the hosts that its configuration names.
	text += fmt.Sprintf("notifier: {connstring: x, indexer_addr: %[1]q, matcher_addr: %[1]q}\nmatcher: {connstring: %[2]q, indexer_addr: %[1]q}\n", p.base()+"/", p.clairDB)
	text += fmt.Sprintf("updaters: {sets: [osv], config: {osv: {url: %q}}}\n", p.feed)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return file
}

// clairctlReports asks for an image's report in every format, over a registry
// that redirects blobs.
func (p *peers) clairctlReports(img peerImage) {
	if *peerClairctl == "" {
		p.missing("clairctl's reports, and archives", "CLAIRCTL=clairctl")
		return
	}
	for _, format := range []string{"text", "json", "xml"} {
		out, err := p.run(2*time.Minute, nil, *peerClairctl, "--config", p.clairctlConfig(), "report", "--host", p.base(), "--out", format, img.ref)
		if err == nil && !strings.Contains(out, "PYSEC-2026-flask") {
			err = fmt.Errorf("it does not name the flaw: %s", tail(out, 300))
		}
		p.check("clairctl report --out "+format+" through a registry that redirects blobs", err)
	}
	_, err := p.run(time.Minute, nil, *peerClairctl, "--config", p.clairctlConfig(), "delete", "--host", p.base(), img.Hash)
	if err == nil {
		if status, b, askErr := p.ask(p.base(), "GET", "/indexer/api/v1/index_report/"+img.Hash, nil); askErr != nil || status != 404 {
			err = fmt.Errorf("the report is still there: %d %s %v", status, tail(string(b), 200), askErr)
		}
	}
	p.check("clairctl delete", err)
	p.index(p.base(), img)
}

func (p *peers) index(base string, img peerImage) {
	p.t.Helper()
	if status, b, err := p.ask(base, "POST", "/indexer/api/v1/index_report", img); err != nil || status != 201 {
		p.t.Fatalf("index at %s: %d %v: %s", base, status, err, tail(string(b), 500))
	}
}

// vulnerabilities are the names in a report.
func (p *peers) vulnerabilities(base, digest string) ([]string, error) {
	status, b, err := p.ask(base, "GET", "/matcher/api/v1/vulnerability_report/"+digest, nil)
	if err != nil || status != 200 {
		return nil, fmt.Errorf("vulnerability_report: %d %w %s", status, err, tail(string(b), 300))
	}
	var r struct {
		Vulnerabilities map[string]struct {
			Name string `json:"name"`
		} `json:"vulnerabilities"`
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, err
	}
	var out []string
	for _, v := range r.Vulnerabilities {
		out = append(out, v.Name)
	}
	slices.Sort(out)
	return out, nil
}

// clairMatcher runs a matcher of Clair's whose indexer is Tocsin, and compares
// Tocsin's report with Clair's own.
func (p *peers) clairMatcher(img peerImage) {
	if p.clair == "" {
		p.missing("Clair in matcher and in notifier mode, and what takes how long", "CLAIR=clair")
		return
	}
	p.index(p.clair, img)
	theirs, err := p.vulnerabilities(p.clair, img.Hash)
	var ours []string
	if err == nil {
		ours, err = p.vulnerabilities(p.base(), img.Hash)
	}
	if err == nil && (len(ours) == 0 || !slices.Equal(ours, theirs)) {
		err = fmt.Errorf("Tocsin finds %v, Clair %v", ours, theirs)
	}
	p.check("a report of Tocsin's names what Clair's names", err)

	url, err := p.clairProcess("matcher", fmt.Sprintf("matcher: {connstring: %q, indexer_addr: %q, disable_updaters: true}\n", p.clairDB, p.base()+"/"))
	if err == nil {
		var got []string
		if got, err = p.vulnerabilities(url, img.Hash); err == nil && !slices.Equal(got, theirs) {
			err = fmt.Errorf("it finds %v, want %v", got, theirs)
		}
	}
	p.check("clair -mode matcher, its indexer being Tocsin", err)
}

// clairNotifier starts a notifier of Clair's whose indexer and matcher are
// Tocsin. It looks for updates once a minute, which is the least.
func (p *peers) clairNotifier() (heard func()) {
	if p.clair == "" {
		return func() {}
	}
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var n struct {
			ID string `json:"notification_id"`
		}
		if json.NewDecoder(r.Body).Decode(&n) == nil {
			p.notified <- n.ID
		}
	}))
	p.t.Cleanup(hook.Close)
	url, err := p.clairProcess("notifier", fmt.Sprintf(`notifier: {connstring: %q, migrations: true, indexer_addr: %[2]q, matcher_addr: %[2]q, poll_interval: 1m, delivery_interval: 1m, webhook: {target: %q, callback: "http://unused/"}}
`, p.database(), p.base()+"/", hook.URL))
	if err == nil {
		p.notifier = url
		p.advise("django")
		p.update()
	}
	return func() {
		if err == nil {
			select {
			case id := <-p.notified:
				var b []byte
				var status int
				if status, b, err = p.ask(url, "GET", "/notifier/api/v1/notification/"+id, nil); err == nil && (status != 200 || !bytes.Contains(b, []byte("PYSEC-2026-"))) {
					err = fmt.Errorf("its notification is %d %s", status, tail(string(b), 300))
				}
			case <-time.After(5 * time.Minute):
				err = fmt.Errorf("it sent nothing within five minutes of an update")
			}
		}
		p.check("clair -mode notifier, its indexer and matcher being Tocsin", err)
	}
}

// archives takes the feed from one program to the other.
func (p *peers) archives() {
	if *peerClairctl == "" {
		return
	}
	theirs := filepath.Join(p.dir, "clairctl.gz")
	_, err := p.run(3*time.Minute, nil, *peerClairctl, "--config", p.clairctlConfig(), "export-updaters", theirs)
	env := []string{"TOCSIN_TOKEN=" + p.tocsin.token(), "TOCSIN_SERVER=" + p.base()}
	if err == nil {
		_, err = p.run(3*time.Minute, env, p.tocsin.bin, "updaters", "import", theirs)
	}
	p.check("an archive of clairctl's, imported by Tocsin", err)
	if p.clair == "" {
		return
	}
	ours := filepath.Join(p.dir, "tocsin.gz")
	p.advise("celery")
	_, err = p.run(3*time.Minute, nil, p.tocsin.bin, "updaters", "export", "--config", p.tocsin.config, ours)
	if err == nil {
		_, err = p.run(3*time.Minute, nil, *peerClairctl, "--config", p.clairctlConfig(), "import-updaters", ours)
	}
	p.check("an archive of Tocsin's, imported by clairctl", err)
}

// takeover says what Tocsin would take over of the database that Clair has
// filled, and changes nothing there.
func (p *peers) takeover() {
	if p.clair == "" {
		return
	}
	out, err := p.run(time.Minute, nil, p.tocsin.bin, "migrate", "from-clair", "--dry-run", "--database-url", p.clairDB, "--data-dir", p.dir, "-o", "json")
	var plan struct {
		Begun  bool
		Images int
		Feeds  []struct{ Updater string }
	}
	if err == nil {
		err = json.Unmarshal([]byte(out), &plan)
	}
	if err == nil && (plan.Begun || plan.Images == 0 || len(plan.Feeds) == 0 || plan.Feeds[0].Updater != "osv/pypi") {
		err = fmt.Errorf("it is %s", tail(out, 300))
	}
	p.check("tocsin migrate from-clair --dry-run on Clair's own database", err)
}
