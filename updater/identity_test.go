package updater

import (
	"strings"
	"testing"
	"unique"

	"github.com/quay/claircore"
)

func TestIdentify(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, links, want, aliases string }{
		{"CVE-2024-1001 on Ubuntu 22.04 LTS (jammy) - medium", "", "CVE-2024-1001", ""},
		{"\nELSA-2018-4249:  krb5 security update (LOW)\n", "https://x/ELSA-2018-4249 https://x/CVE-2018-0732 https://x/CVE-2018-0732.html", "ELSA-2018-4249", "CVE-2018-0732"},
		{"PHSA-2020:00001 sqlite Security Update. (Important)", "https://nvd.nist.gov/vuln/detail/CVE-2019-8457", "PHSA-2020:00001", "CVE-2019-8457"},
		{"ALAS-2014-320", "https://alas/ALAS-2014-320.html http://cve.mitre.org/cgi-bin/cvename.cgi?name=CVE-2014-0160", "ALAS-2014-320", "CVE-2014-0160"},
		{"CVE-2017-2616 (+ regression fix)", "https://x/CVE-2017-2616", "CVE-2017-2616", ""},
		{"GHSA-3gh6-v5v9-6v9j CVE-2023-3004", "", "GHSA-3gh6-v5v9-6v9j", "CVE-2023-3004"},
		{"CVE-2024-1 CVE-2024-1002", "", "CVE-2024-1", "CVE-2024-1002"},
		{"CVE-2024-1003", "https://elsewhere/CVE-2021-44228", "CVE-2024-1003", ""},
		{"openSUSE-SU-2021:1234-1", "", "openSUSE-SU-2021:1234-1", ""},
		{"Moderate: kernel update", "", "Moderate: kernel update", ""},
		{"a title", "", "a title", ""},
	} {
		v := &claircore.Vulnerability{Name: c.name, Links: c.links}
		for range 2 { // a row may come twice
			identify(v)
		}
		var aliases []string
		for _, a := range v.Aliases {
			aliases = append(aliases, a.String())
		}
		if got := strings.Join(aliases, " "); v.Name != c.want || got != c.aliases {
			t.Errorf("%q is %q with aliases %q, want %q with %q", c.name, v.Name, got, c.want, c.aliases)
		}
	}
	own := &claircore.Vulnerability{Name: "GHSA-1", Self: claircore.Alias{Space: unique.Make("GHSA"), Name: "1"}, Links: "https://other/CVE-2021-44228"}
	if identify(own); len(own.Aliases) != 0 {
		t.Errorf("a link of an advisory that says what it is called is taken for its id: %v", own.Aliases)
	}
	rated := &claircore.Vulnerability{Name: "CVE-1", Severity: "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}
	if identify(rated); rated.NormalizedSeverity != claircore.Critical {
		t.Errorf("a vector of 9.8 is %v", rated.NormalizedSeverity)
	}
}
