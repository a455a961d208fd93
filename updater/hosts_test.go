package updater

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"
)

// strict carries requests to one host and refuses all others, which it notes.
type strict struct {
	host   string
	mu     sync.Mutex
	others []string
}

func (s *strict) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Host == s.host {
		return http.DefaultTransport.RoundTrip(req)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.others = append(s.others, req.URL.Host)
	return nil, fmt.Errorf("no route to %s", req.URL.Host)
}

// TestOnlyConfiguredHosts: with everything configured to one mirror, a set asks
// nobody else, unless its Fixed says so; and then it does.
func TestOnlyConfiguredHosts(t *testing.T) {
	t.Parallel()
	m := newMirror(t)
	m.osv(t, 2, "Go")
	m.alpine("1", "v3.3")
	m.debian(t)
	m.kev(t, "CVE-2026-0001")
	m.epss(t, map[string]float64{"CVE-2026-0001": 0.25})
	m.vex(t, map[string]string{"2026/cve-2026-1000.json": vexDocument("CVE-2026-1000", "7.76.1-29.el9")})
	m.put("/suse/", []byte(`<a href="opensuse.leap.15.6.xml.gz">15.6</a>`))
	m.put("/launchpad/ubuntu/series", []byte(`{"entries":[{"active":true,"name":"jammy","version":"22.04"}]}`))
	oval := []byte(`<?xml version="1.0"?><oval_definitions xmlns="http://oval.mitre.org/XMLSchema/oval-definitions-5"></oval_definitions>`)
	m.put("/oval.xml", oval)

	settings := m.config().Settings
	settings["rhel-vex"] = map[string]any{"url": m.URL + "/vex/"}
	settings["suse"] = map[string]any{"url": m.URL + "/suse/"}
	settings["ubuntu"] = map[string]any{"url": m.URL + "/launchpad/"}
	settings["cvss"] = map[string]any{"feed_root": m.URL + "/nvd/"}
	plain := map[string]any{"url": m.URL + "/oval.xml", "compression": "none"}
	for year := 2007; year <= time.Now().Year(); year++ {
		settings[fmt.Sprintf("oracle-%d-updater", year)] = plain
	}
	for release := 1; release <= 5; release++ {
		settings[fmt.Sprintf("photon-updater-%d.0", release)] = plain
	}
	u, err := url.Parse(m.URL)
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	for _, set := range Sets() {
		t.Run(set.Name, func(t *testing.T) {
			net := &strict{host: u.Host}
			before := m.total()
			b := newBench(t, Config{Settings: settings}, func(o *Options) { o.Transport = net })
			err := b.run(set.Name) // what a mirror this small answers may not please it
			slices.Sort(net.others)
			others := slices.Compact(net.others)
			if (set.Fixed != "") != (len(others) > 0) {
				t.Errorf("asked %v besides the mirror, and Fixed is %q (%v)", others, set.Fixed, err)
			}
			if set.Fixed == "" && m.total() == before {
				t.Errorf("the mirror was not asked at all (%v)", err)
			}
			if slices.Contains([]string{"osv", "alpine", "debian", "kev", "epss", "rhel-vex", "oracle", "photon"}, set.Name) && err != nil {
				t.Errorf("it failed: %v", err)
			}
			asked++
		})
	}
	if asked != 12 {
		t.Errorf("%d sets, want 12", asked)
	}
}

// total is how many requests the mirror has had.
func (m *mirror) total() (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, hits := range m.hits {
		n += hits
	}
	return n
}
