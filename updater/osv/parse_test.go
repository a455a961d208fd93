package osv

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/quay/claircore"

	"tocsin.dev/tocsin/internal/osvrange"
)

// archive writes advisories as claircore's fetcher leaves them: an archive in an
// archive.
func archive(t *testing.T, advisories ...string) *os.File {
	t.Helper()
	var inner bytes.Buffer
	z := zip.NewWriter(&inner)
	for i, a := range advisories {
		w, err := z.Create(fmt.Sprintf("%d.json", i))
		if err == nil {
			_, err = w.Write([]byte(a))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return wrapped(t, inner.Bytes())
}

func wrapped(t *testing.T, inner []byte) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "feed"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	z := zip.NewWriter(f)
	w, err := z.CreateHeader(&zip.FileHeader{Name: "x.zip", Method: zip.Store})
	if err == nil {
		_, err = w.Write(inner)
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func parse(t *testing.T, updater string, advisories ...string) []*claircore.Vulnerability {
	t.Helper()
	f := &feed{ecosystem: ecosystemOf(updater)}
	vs, err := f.Parse(t.Context(), archive(t, advisories...))
	if err != nil {
		t.Fatal(err)
	}
	return vs
}

// brief is a row in a line: name, package, bounds, and the numbers claircore's
// matchers look at.
func brief(v *claircore.Vulnerability) string {
	s := fmt.Sprintf("%s %s %q", v.Name, v.Package.Name, v.FixedInVersion)
	if r, ok := osvrange.Decode(v.Package.Version); ok {
		s += fmt.Sprintf(" [%s %s %s %v]", r.Introduced, r.Fixed, r.LastAffected, r.Versions)
	}
	if v.Range != nil {
		s += fmt.Sprintf(" %s-%s", v.Range.Lower.String(), v.Range.Upper.String())
	}
	return s
}

func briefs(vs []*claircore.Vulnerability) []string {
	var out []string
	for _, v := range vs {
		out = append(out, brief(v))
	}
	slices.Sort(out)
	return out
}

func TestRows(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		what, updater, advisory string
		want                    []string
	}{
		{
			"a fix at a pseudo-version", "osv/go",
			`{"id":"GO-1","affected":[{"package":{"ecosystem":"Go","name":"m"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"},{"fixed":"0.0.0-20220314234659-1baeb1ce4c0b"}]}]}]}`,
			[]string{`GO-1 m "0.0.0-20220314234659-1baeb1ce4c0b" [ 0.0.0-20220314234659-1baeb1ce4c0b  []] 0-0`},
		},
		{
			"two stretches in one range", "osv/go",
			`{"id":"GO-1","affected":[{"package":{"ecosystem":"Go","name":"m"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"},{"fixed":"1.2.3"},{"introduced":"2.0.0-rc.1"}]}]}]}`,
			[]string{`GO-1 m "" [2.0.0-rc.1   []] 2-65535!0`, `GO-1 m "1.2.3" [ 1.2.3  []] 0-1.2.3`},
		},
		{
			"last affected", "osv/npm",
			`{"id":"GHSA-1","affected":[{"package":{"ecosystem":"npm","name":"m"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"},{"last_affected":"2.3.4"}]}]}]}`,
			[]string{`GHSA-1 m "" [  2.3.4 []] 0-2.3.5`},
		},
		{
			"another ecosystem's package of the same name", "osv/pypi",
			`{"id":"GHSA-1","affected":[{"package":{"ecosystem":"npm","name":"m"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"},{"fixed":"0.6.0"}]}]},
			  {"package":{"ecosystem":"PyPI","name":"m"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"0.8.0"}]}]}]}`,
			[]string{`GHSA-1 m "fixed=0.8.0"`},
		},
		{
			"versions only", "osv/pypi",
			`{"id":"PYSEC-1","affected":[{"package":{"ecosystem":"PyPI","name":"Ruamel_.Yaml"},"ranges":[{"type":"GIT","events":[{"introduced":"0"}]}],"versions":["5.3","5.3.1"]}]}`,
			[]string{`PYSEC-1 ruamel-yaml "introduced=5.3&lastAffected=5.3"`, `PYSEC-1 ruamel-yaml "introduced=5.3.1&lastAffected=5.3.1"`},
		},
		{
			"versions only, semantic", "osv/npm",
			`{"id":"MAL-1","affected":[{"package":{"ecosystem":"npm","name":"m"},"versions":["1.0.0","1.0.1-rc.1"]}]}`,
			[]string{`MAL-1 m "" [   [1.0.0 1.0.1-rc.1]]`},
		},
		{
			"versions beside a range", "osv/maven",
			`{"id":"GHSA-1","affected":[{"package":{"ecosystem":"Maven","name":"g:a"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"2.0"},{"fixed":"2.15"}]}],"versions":["2.0"]}]}`,
			[]string{`GHSA-1 g:a "fixed=2.15&introduced=2.0"`},
		},
		{
			"an alias without a hyphen", "osv/rubygems",
			`{"id":"GHSA-1","aliases":["odd","CVE-2024-1"],"affected":[{"package":{"ecosystem":"RubyGems","name":"rack"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"}]}]}]}`,
			[]string{`GHSA-1 rack ""`},
		},
		{
			"withdrawn", "osv/go",
			`{"id":"GO-1","withdrawn":"2020-01-01T00:00:00Z","affected":[{"package":{"ecosystem":"Go","name":"m"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"}]}]}]}`,
			nil,
		},
	} {
		if got := briefs(parse(t, c.updater, c.advisory)); !slices.Equal(got, c.want) {
			t.Errorf("%s:\n%s\nwant\n%s", c.what, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
		}
	}
}

func TestSeverities(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fields string
		want   claircore.Severity
	}{
		{`"severity":[{"type":"CVSS_V3","score":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}]`, claircore.Critical},
		{`"severity":[{"type":"CVSS_V4","score":"CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N"}]`, claircore.Critical},
		{`"severity":[{"type":"CVSS_V3","score":"garbage"}],"database_specific":{"severity":"MODERATE"}`, claircore.Medium},
		{`"database_specific":{"severity":"HIGH"}`, claircore.High},
		{`"database_specific":["odd"]`, claircore.Unknown},
	} {
		vs := parse(t, "osv/go", `{"id":"GO-1",`+c.fields+`,"affected":[{"package":{"ecosystem":"Go","name":"m"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"}]}]}]}`)
		if len(vs) != 1 || vs[0].NormalizedSeverity != c.want {
			t.Errorf("%s: %v, want %v", c.fields, vs[0].NormalizedSeverity, c.want)
		}
	}
}

// TestAliasesAreOneVulnerability: what several publishers say of one
// vulnerability has one name, and the other ids as aliases.
func TestAliasesAreOneVulnerability(t *testing.T) {
	t.Parallel()
	advisory := func(id string, aliases ...string) string {
		return fmt.Sprintf(`{"id":%q,"aliases":["%s"],"affected":[{"package":{"ecosystem":"PyPI","name":"p"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"}]}]}]}`,
			id, strings.Join(aliases, `","`))
	}
	names := func(advisories ...string) string {
		var out []string
		for _, v := range parse(t, "osv/pypi", advisories...) {
			var also []string
			for _, a := range v.Aliases {
				also = append(also, a.String())
			}
			slices.Sort(also)
			out = append(out, v.Name+"("+strings.Join(also, ",")+")")
		}
		slices.Sort(out)
		return strings.Join(slices.Compact(out), " ")
	}
	for _, c := range []struct {
		what       string
		advisories []string
		want       string
	}{
		{"one names the other", []string{advisory("PYSEC-7", "CVE-2099-5001", "GHSA-f"), advisory("GHSA-f", "CVE-2099-5001")}, "GHSA-f(CVE-2099-5001,PYSEC-7)"},
		{"both name a CVE", []string{advisory("PYSEC-7", "CVE-2099-5001"), advisory("GHSA-f", "CVE-2099-5001")}, "GHSA-f(CVE-2099-5001,PYSEC-7)"},
		{"one without a CVE", []string{advisory("PYSEC-7", "GHSA-f"), advisory("GHSA-f", "CVE-2099-5001")}, "GHSA-f(CVE-2099-5001,PYSEC-7)"},
		{"different CVEs", []string{advisory("PYSEC-7", "CVE-2099-5001"), advisory("GHSA-f", "CVE-2099-5002")}, "GHSA-f(CVE-2099-5002) PYSEC-7(CVE-2099-5001)"},
		{
			"one that lists two others", []string{advisory("PYSEC-7", "CVE-2099-5001", "CVE-2099-5002"), advisory("GHSA-f", "CVE-2099-5001"), advisory("GHSA-g", "CVE-2099-5002")},
			"GHSA-f(CVE-2099-5001) GHSA-g(CVE-2099-5002) PYSEC-7(CVE-2099-5001,CVE-2099-5002)",
		},
	} {
		if got := names(c.advisories...); got != c.want {
			t.Errorf("%s: %s, want %s", c.what, got, c.want)
		}
		slices.Reverse(c.advisories)
		if got := names(c.advisories...); got != c.want {
			t.Errorf("%s, the other way round: %s, want %s", c.what, got, c.want)
		}
	}
}

// TestBrokenFeeds: what is no archive of advisories is an error.
func TestBrokenFeeds(t *testing.T) {
	t.Parallel()
	f := &feed{ecosystem: ecosystemOf("osv/go")}
	for _, inner := range []string{"", "<html>", "PK\x03\x04"} {
		if _, err := f.Parse(t.Context(), wrapped(t, []byte(inner))); err == nil {
			t.Errorf("%q was taken for an archive", inner)
		}
	}
	if _, err := f.Parse(t.Context(), archive(t, `{"id":`)); err == nil {
		t.Error("half an advisory was taken")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Parse(ctx, archive(t, `{"id":"GO-1"}`)); err == nil {
		t.Error("parsing goes on after its end")
	}
}

// TestFetchesAgainWhatAnotherParserRead: data that claircore's parser read are
// fetched in full once.
func TestFetchesAgainWhatAnotherParserRead(t *testing.T) {
	t.Parallel()
	for last, want := range map[string]string{`"etag"`: "", version + `"etag"`: `"etag"`, "": ""} {
		inner := &remembers{}
		f := &feed{Updater: inner, ecosystem: ecosystemOf("osv/go")}
		_, fp, _ := f.Fetch(t.Context(), asFingerprint(last))
		if inner.asked != want || string(fp) != version+"new" {
			t.Errorf("after %q the server is asked with %q, want %q; the next is %q", last, inner.asked, want, fp)
		}
	}
}
