package updater

import (
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

func TestSettings(t *testing.T) {
	t.Parallel()
	tests := []struct {
		yaml string
		err  string
	}{
		{yaml: `{}`},
		{yaml: `osv: {url: "http://127.0.0.1:1/", allowlist: [Go, npm]}`},
		{yaml: `osv/go: {url: "http://127.0.0.1:1/Go/all.zip"}`},
		{yaml: `debian: {mirror_url: "http://127.0.0.1:1/", json_url: "http://127.0.0.1:1/json"}`},
		{yaml: `rhel-vex: {url: "http://127.0.0.1:1/", compressed_file_timeout: 5m}`},
		{yaml: `clair.cvss: {feed_root: "http://127.0.0.1:1/"}`},
		{yaml: `kev: {feed: "http://127.0.0.1:1/kev.json"}`},
		{yaml: `kev: {feed_root: "http://127.0.0.1:1/kev.json"}`},
		{yaml: `ubuntu: {force: [{name: focal, version: "20.04"}]}`},
		{yaml: `osv: {uri: "http://127.0.0.1:1/"}`, err: `updaters.config.osv: unknown key "uri" (it takes allowlist, url)`},
		{yaml: `osv: "http://127.0.0.1:1/"`, err: `updaters.config.osv: want keys and values`},
		{yaml: `osv: {allowlist: Go}`, err: `updaters.config.osv`},
		{yaml: `osv: {url: "http://%zz/"}`, err: `invalid URL escape`},
		{yaml: `osw: {url: x}`, err: `updaters.config.osw: neither a set nor an updater`},
		{yaml: `aws: {url: "http://127.0.0.1:1/"}`, err: `updaters.config.aws: unknown key "url": it takes no configuration`},
		{yaml: `epss: {url: "http://127.0.0.1:1/epss.csv"}`, err: `.gz`},
		{yaml: `clair.cvss: {feed_root: "http://127.0.0.1:1/x"}`, err: `trailing slash`},
		{yaml: `debian: {oval_url: "http://127.0.0.1:1/"}`, err: `json_url`},
	}
	for _, tt := range tests {
		var settings map[string]any
		if err := yaml.Unmarshal([]byte(tt.yaml), &settings); err != nil {
			t.Fatal(err)
		}
		_, err := New(Options{Config: Config{Settings: settings}})
		if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%s: error %v, want one with %q", tt.yaml, err, tt.err)
		}
	}
}

func TestSetsChosen(t *testing.T) {
	t.Parallel()
	s, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(setNames(s.sets), " "); got != "alpine aws cvss debian epss kev oracle osv photon rhel-vex suse ubuntu" {
		t.Errorf("without configuration the sets are %s", got)
	}
	if s, err = New(Options{Config: Config{Sets: []string{"osv", "clair.kev"}}}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(setNames(s.sets), " "); got != "kev osv" {
		t.Errorf("chosen are %s, want kev osv", got)
	}
	if _, err = New(Options{Config: Config{Sets: []string{"osv", "rhel"}}}); err == nil || !strings.Contains(err.Error(), `updaters.sets: no such updater set: "rhel" (there are alpine,`) {
		t.Errorf("an unknown set gives %v", err)
	}
	for updater, set := range map[string]string{
		"osv/go": "osv", "alpine-main-v3.20-updater": "alpine", "debian/updater": "debian", "clair.kev": "kev",
		"suse-updater-opensuse.leap.15.5": "suse", "rhel-vex": "rhel-vex", "ubuntu/updater/focal": "ubuntu", "mine": "import",
	} {
		if got := s.setOf(updater); got != set {
			t.Errorf("%s belongs to %s, want %s", updater, got, set)
		}
	}
}
