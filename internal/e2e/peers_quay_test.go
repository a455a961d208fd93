//go:build peers

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// python runs a part of Quay and reads the line of JSON that it ends with.
func (p *peers) python(into any, args ...string) error {
	out, err := p.run(2*time.Minute, nil, *peerPython, append([]string{"testdata/quay.py", *peerQuay}, args...)...)
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return json.Unmarshal([]byte(lines[len(lines)-1]), into)
}

// quay runs Quay's client, what it makes of a report, its worker and its webhook
// endpoint against Tocsin.
func (p *peers) quay(img peerImage) {
	if *peerQuay == "" {
		p.missing("Quay's client, reader of reports, worker and endpoint", "QUAY=folder")
		return
	}
	manifest := filepath.Join(p.dir, "manifest.json")
	report := filepath.Join(p.dir, "report.json")
	b, err := json.Marshal(img)
	if err == nil {
		err = os.WriteFile(manifest, b, 0o600)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	var api struct {
		Index       bool `json:"index"`
		SameState   bool `json:"same_state"`
		IndexReport bool `json:"index_report"`
		Found       int  `json:"vulnerabilities"`
		Unknown     any  `json:"unknown"`
		State       any  `json:"state"`
	}
	err = p.python(&api, "api", p.base(), peerKey, manifest)
	if err != nil && strings.Contains(err.Error(), "missing the Python module") {
		p.missing("Quay's parts", "PYTHON, one that has what Quay's parts import: "+err.Error())
		return
	}
	if err == nil && (!api.Index || !api.SameState || !api.IndexReport || api.Found == 0 || api.Unknown != nil) {
		err = fmt.Errorf("it got %+v", api)
	}
	p.check("Quay's util/secscan/v4/api.py", err)

	status, b, err := p.ask(p.base(), "GET", "/matcher/api/v1/vulnerability_report/"+img.Hash, nil)
	if err == nil && status == 200 {
		err = os.WriteFile(report, b, 0o600)
	}
	var features struct{ Features, Vulnerabilities int }
	if err == nil {
		err = p.python(&features, "features", report)
	}
	if err == nil && (features.Features != 2 || features.Vulnerabilities == 0) {
		err = fmt.Errorf("it found %+v", features)
	}
	p.check("Quay's features_for on a report", err)

	p.quayNotified()
}

// quayNotified lets Tocsin post to Quay's endpoint, which wants a token, and
// Quay's worker read what it was told of.
func (p *peers) quayNotified() {
	at := freePort(p.t)
	_, port, err := net.SplitHostPort(at)
	if err != nil {
		p.t.Fatal(err)
	}
	out := p.process(*peerPython, "testdata/quay.py", *peerQuay, "endpoint", port, peerKey)
	eventually(p.t, time.Minute, "Quay's endpoint answers", func() (bool, string) {
		c, err := net.Dial("tcp", at)
		if err == nil {
			c.Close()
		}
		return err == nil, fmt.Sprint(err)
	})
	p.tocsin.call("POST", "/api/v1/subscriptions", map[string]any{
		"sink": "http://" + at + "/secscan/notification", "types": []string{"dev.tocsin.manifest.vulnerabilities_changed.v1"},
		"config": map[string]string{"mode": "clair", "granularity": "update"},
	}, nil)
	p.advise("jinja2")
	p.index(p.base(), p.image("quay", "jinja2"))
	p.update()
	var queued struct{ Queued string }
	err = errors.New("nothing was queued within a minute")
	for end := time.Now().Add(time.Minute); time.Now().Before(end) && err != nil; time.Sleep(100 * time.Millisecond) {
		for line := range strings.Lines(out.String()) {
			if json.Unmarshal([]byte(line), &queued) == nil && queued.Queued != "" {
				err = nil
			}
		}
	}
	p.check("Quay's endpoints/secscan.py, with its key", err)
	if err != nil {
		return
	}
	var worker struct{ Manifests, Told, Left int }
	err = p.python(&worker, "worker", p.base(), peerKey, queued.Queued, "High")
	if err == nil && (worker.Manifests == 0 || worker.Told != worker.Manifests || worker.Left != 0) {
		err = fmt.Errorf("it came to %+v", worker)
	}
	p.check("Quay's notification worker, at level High", err)
}
