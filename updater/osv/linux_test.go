package osv

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/quay/claircore/libvuln/driver"
)

// served is a bucket with some ecosystems, each with its advisories.
func served(t *testing.T, ecosystems map[string][]string) *httptest.Server {
	t.Helper()
	archives := map[string][]byte{}
	var names []string
	for name, advisories := range ecosystems {
		names = append(names, name)
		var buf bytes.Buffer
		z := zip.NewWriter(&buf)
		for i, a := range advisories {
			w, err := z.Create(fmt.Sprintf("%d.json", i))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write([]byte(a)); err != nil {
				t.Fatal(err)
			}
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		archives["/"+name+"/all.zip"] = buf.Bytes()
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, ok := archives[r.URL.Path]
		switch {
		case r.URL.Path == "/ecosystems.txt":
			fmt.Fprintln(w, strings.Join(names, "\n"))
		case !ok:
			http.NotFound(w, r)
		case r.Header.Get("If-None-Match") == `"1"`:
			w.WriteHeader(http.StatusNotModified)
		default:
			w.Header().Set("ETag", `"1"`)
			w.Write(b)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func set(t *testing.T, config string) driver.UpdaterSet {
	t.Helper()
	f := new(Factory)
	decode := func(v any) error { return json.Unmarshal([]byte(config), v) }
	if err := f.Configure(t.Context(), decode, http.DefaultClient); err != nil {
		t.Fatal(err)
	}
	s, err := f.UpdaterSet(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestDistributions reads the advisories of distributions that claircore leaves
// out, in the forms in which their publishers write them.
func TestDistributions(t *testing.T) {
	t.Parallel()
	s := served(t, map[string][]string{
		"Rocky Linux": {`{"id":"RLSA-2099:1","summary":"Important: openssl","upstream":["CVE-2099-1","CVE-2099-2"],
			"severity":[{"type":"CVSS_V3","score":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],"affected":[
			{"package":{"ecosystem":"Rocky Linux:9","name":"openssl"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"1:3.0.7-27.el9"}]}]},
			{"package":{"ecosystem":"Rocky Linux:8","name":"openssl"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"1:1.1.1k-12.el8"}]}]},
			{"package":{"ecosystem":"AlmaLinux:9","name":"openssl"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"1:3.0.7-99.el9"}]}]}]}`},
		"AlmaLinux": {`{"id":"ALSA-2099:1","aliases":["CVE-2099-1"],"affected":[
			{"package":{"ecosystem":"AlmaLinux:9","name":"openssl-libs"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"1:3.0.7-27.el9"}]}]}]}`,
			`{"id":"ALSA-2099:2","withdrawn":"2020-01-01T00:00:00Z","affected":[
			{"package":{"ecosystem":"AlmaLinux:9","name":"bash"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"}]}]}]}`},
		"Wolfi": {`{"id":"CGA-2099-0001","upstream":["CVE-2099-3"],"affected":[
			{"package":{"ecosystem":"Wolfi","name":"openssl"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"3.1.4-r2"}]}]},
			{"package":{"ecosystem":"Wolfi","name":"curl"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"0"}]}]},
			{"package":{"ecosystem":"Chainguard","name":"openssl"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"3.1.4-r9"}]}]}]}`},
		"openEuler": {`{"id":"OESA-2099-1","affected":[
			{"package":{"ecosystem":"openEuler:22.03-LTS-SP3","name":"kernel"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"5.10-1"},{"last_affected":"5.10-9"}]}]}]}`},
		"Go": {},
	})
	want := map[string][]string{
		"osv/almalinux":   {"ALSA-2099:1 almalinux 9 binary openssl-libs < 1:3.0.7-27.el9 [] [CVE-2099-1]"},
		"osv/openeuler":   {"OESA-2099-1 openEuler 22.03-LTS-SP3 source kernel <  [range:introduced=5.10-1&lastAffected=5.10-9] []"},
		"osv/rocky-linux": {"RLSA-2099:1 rocky 8 source openssl < 1:1.1.1k-12.el8 [] [CVE-2099-1 CVE-2099-2]", "RLSA-2099:1 rocky 9 source openssl < 1:3.0.7-27.el9 [] [CVE-2099-1 CVE-2099-2]"},
		"osv/wolfi":       {"CGA-2099-0001 wolfi  binary openssl < 3.1.4-r2 [] [CVE-2099-3]"},
	}
	found := set(t, fmt.Sprintf(`{"url":%q}`, s.URL+"/"))
	var names []string
	for _, u := range found.Updaters() {
		names = append(names, u.Name())
		if u.Name() == "osv/go" {
			continue
		}
		contents, fp, err := u.Fetch(t.Context(), "")
		if err != nil {
			t.Fatalf("%s: %v", u.Name(), err)
		}
		vulns, err := u.Parse(t.Context(), contents)
		contents.Close()
		if err != nil {
			t.Fatalf("%s: %v", u.Name(), err)
		}
		var got []string
		for _, v := range vulns {
			var aliases []string
			for _, a := range v.Aliases {
				aliases = append(aliases, a.String())
			}
			got = append(got, fmt.Sprintf("%s %s %s %s %s < %s [%s] %v", v.Name, v.Dist.DID, v.Dist.VersionID, v.Package.Kind, v.Package.Name,
				v.FixedInVersion, v.Package.Version, aliases))
			if v.Updater != u.Name() {
				t.Errorf("%s: a row is %q's", u.Name(), v.Updater)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want[u.Name()]) {
			t.Errorf("%s:\n got %q\nwant %q", u.Name(), got, want[u.Name()])
		}
		if _, _, err := u.Fetch(t.Context(), fp); err != driver.Unchanged {
			t.Errorf("%s: fetched again: %v", u.Name(), err)
		}
	}
	slices.Sort(names)
	if fmt.Sprint(names) != "[osv/almalinux osv/go osv/openeuler osv/rocky-linux osv/wolfi]" {
		t.Errorf("the updaters are %v", names)
	}
	allowed := set(t, fmt.Sprintf(`{"url":%q,"allowlist":["go","rocky linux"]}`, s.URL+"/"))
	if n := len(allowed.Updaters()); n != 2 {
		t.Errorf("with an allowlist of two there are %d updaters", n)
	}
}
