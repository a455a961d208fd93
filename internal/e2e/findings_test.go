package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"tocsin.dev/tocsin/schemas"
)

// findings is a set of "id|package|version".
type findings map[string]bool

func (f findings) diff(want findings) string {
	var out []string
	for k := range want {
		if !f[k] {
			out = append(out, "missing "+k)
		}
	}
	for k := range f {
		if !want[k] {
			out = append(out, "extra   "+k)
		}
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

// expectation is one file of expected/.
type expectation struct {
	Manifest string
	Before   []expectedRow
	After    []expectedRow
	Added    []string
	Gone     []string
}

type expectedRow struct {
	Vulnerability, Package, Version string
	FixedIn                         string `json:"fixed_in"`
	Severity                        string `json:"normalized_severity"`
	Updater                         string
}

func rowsOf(rows []expectedRow) findings {
	f := findings{}
	for _, r := range rows {
		f[r.Vulnerability+"|"+r.Package+"|"+r.Version] = true
	}
	return f
}

func setOf(keys []string) findings {
	f := findings{}
	for _, k := range keys {
		f[k] = true
	}
	return f
}

func findingKey(f schemas.Finding) string {
	return f.ID + "|" + f.Package.Name + "|" + f.Package.Version
}

// report reads a manifest's report over Clair's API.
func (s *server) report(digest string) (findings, error) {
	status, b, err := s.request("GET", "/matcher/api/v1/vulnerability_report/"+digest, nil)
	if err != nil {
		return nil, err
	}
	if status == 202 {
		return findings{}, nil
	}
	if status != 200 {
		return nil, fmt.Errorf("report of %s: status %d: %s", digest, status, tail(string(b), 500))
	}
	var r struct {
		Packages map[string]struct{ Name, Version string }
		Vulns    map[string]struct{ Name string } `json:"vulnerabilities"`
		ByPkg    map[string][]string              `json:"package_vulnerabilities"`
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, err
	}
	f := findings{}
	for pkg, ids := range r.ByPkg {
		for _, id := range ids {
			f[r.Vulns[id].Name+"|"+r.Packages[pkg].Name+"|"+r.Packages[pkg].Version] = true
		}
	}
	return f, nil
}

// replayChanges folds the changed events of one manifest, each id once, in the
// order of their ids, and reports any step that does not apply.
func replayChanges(t *testing.T, events []received, digest string) findings {
	t.Helper()
	byID := map[string]received{}
	for _, e := range events {
		if e.Type == schemas.TypeVulnerabilitiesChanged && e.Subject == digest {
			byID[e.ID] = e
		}
	}
	got := findings{}
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		var d schemas.VulnerabilitiesChanged
		if err := json.Unmarshal(byID[id].Data, &d); err != nil {
			t.Fatal(err)
		}
		if d.Truncated {
			t.Fatalf("event %s is truncated", id)
		}
		for _, f := range d.Removed {
			if !got[findingKey(f)] {
				t.Errorf("event %s removes %s, which no event added", id, findingKey(f))
			}
			delete(got, findingKey(f))
		}
		for _, f := range d.Added {
			if got[findingKey(f)] {
				t.Errorf("event %s adds %s a second time", id, findingKey(f))
			}
			got[findingKey(f)] = true
		}
	}
	return got
}
