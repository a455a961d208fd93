package updater

import (
	"archive/tar"
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// vexDocument is an advisory in CSAF's VEX profile: curl on RHEL 9 has it until
// the fixed version.
func vexDocument(cve, fixed string) string {
	pkg := "curl-0:" + fixed + ".x86_64"
	id := "AppStream-9:" + pkg
	return fmt.Sprintf(`{"document":{"tracking":{"id":%[1]q,"status":"final"}},
"product_tree":{"branches":[{"category":"vendor","name":"Red Hat","branches":[
  {"category":"product_name","name":"AppStream","product":{"name":"AppStream","product_id":"AppStream-9","product_identification_helper":{"cpe":"cpe:/a:redhat:enterprise_linux:9::appstream"}}},
  {"category":"product_version","name":"curl","product":{"name":"curl","product_id":%[2]q,"product_identification_helper":{"purl":"pkg:rpm/redhat/curl@%[4]s?arch=x86_64"}}}]}],
 "relationships":[{"category":"default_component_of","full_product_name":{"name":"curl in AppStream","product_id":%[3]q},"product_reference":%[2]q,"relates_to_product_reference":"AppStream-9"}]},
"vulnerabilities":[{"cve":%[1]q,"product_status":{"fixed":[%[3]q]},
 "threats":[{"category":"impact","details":"Important","product_ids":[%[3]q]}],
 "scores":[{"products":[%[3]q],"cvss_v3":{"version":"3.1","vectorString":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H","baseScore":7.5,"baseSeverity":"HIGH"}}],
 "remediations":[{"category":"vendor_fix","details":"update","product_ids":[%[3]q],"url":"https://example.com/RHSA"}]}]}`, cve, pkg, id, fixed)
}

// vex puts an archive of documents, which change one by one afterwards.
func (m *mirror) vex(t testing.TB, documents map[string]string) {
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	for name, data := range documents {
		err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(data))})
		if err == nil {
			_, err = w.Write([]byte(data))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	m.put("/vex/archive_latest.txt", []byte("all.tar.zst\n"))
	m.put("/vex/all.tar.zst", b.Bytes())
	m.put("/vex/changes.csv", nil)
	m.put("/vex/deletions.csv", nil)
}

// changed puts a new version of one document, and its line in changes.csv.
func (m *mirror) changed(name, document string, at time.Time) {
	m.put("/vex/"+name, []byte(document))
	m.put("/vex/changes.csv", fmt.Appendf(nil, "%q,%q\n", name, at.Format(time.RFC3339)))
}

// TestDelta: Red Hat's updater brings what changed alone. What did not stays;
// nothing new is no update, although its fingerprint is always new.
func TestDelta(t *testing.T) {
	t.Parallel()
	m := newMirror(t)
	m.vex(t, map[string]string{
		"2026/cve-2026-1000.json": vexDocument("CVE-2026-1000", "7.76.1-29.el9"),
		"2026/cve-2026-1001.json": vexDocument("CVE-2026-1001", "7.76.1-30.el9"),
	})
	b := newBench(t, Config{Settings: Settings{"rhel-vex": map[string]any{"url": m.URL + "/vex"}}})
	run := func(result Result, rows int64) UpdaterStatus {
		t.Helper()
		if err := b.run("rhel-vex"); err != nil {
			t.Fatal(err)
		}
		return b.want("rhel-vex", result, rows)
	}
	fixed := func(cve string) string {
		t.Helper()
		return one[string](b, `SELECT coalesce(string_agg(fixed_in_version, ' '), '') FROM latest_vuln WHERE name = $1`, cve)
	}
	first := run(Updated, 2)
	if again := run(Unchanged, 2); again.Ref != first.Ref {
		t.Error("nothing new is a new operation")
	}
	// claircore compares whole seconds with its last request.
	later := time.Now().Add(time.Hour)
	m.changed("2026/cve-2026-1001.json", vexDocument("CVE-2026-1001", "7.76.1-31.el9"), later)
	run(Updated, 2)
	if a, b := fixed("CVE-2026-1000"), fixed("CVE-2026-1001"); !strings.HasSuffix(a, "29.el9") || !strings.HasSuffix(b, "31.el9") {
		t.Errorf("after a change of the second: fixed in %q and %q", a, b)
	}
	m.put("/vex/deletions.csv", fmt.Appendf(nil, "%q,%q\n", "2026/cve-2026-1000.json", later.Format(time.RFC3339)))
	run(Updated, 1)
	if f := fixed("CVE-2026-1000"); f != "" {
		t.Errorf("a deleted advisory is still there, fixed in %q", f)
	}
	if n := m.count("GET /vex/all.tar.zst"); n != 1 {
		t.Errorf("the archive was fetched %d times", n)
	}
	// A change that cannot be fetched fails the run and loses nothing.
	m.changed("2026/cve-2026-1002.json", "", later)
	m.hook("/vex/2026/cve-2026-1002.json", http.NotFound)
	if err := b.run("rhel-vex"); err == nil {
		t.Error("a missing document is no error")
	}
	b.want("rhel-vex", Failed, 1)
	m.hook("/vex/2026/cve-2026-1002.json", nil)
	m.changed("2026/cve-2026-1002.json", vexDocument("CVE-2026-1002", "7.76.1-32.el9"), later)
	run(Updated, 2)
}

// TestLaggingMirror: what a mirror publishes late, with a date before the last
// run, is read all the same: documents and deletions.
func TestLaggingMirror(t *testing.T) {
	t.Parallel()
	m := newMirror(t)
	m.vex(t, map[string]string{"2026/cve-2026-1000.json": vexDocument("CVE-2026-1000", "7.76.1-29.el9")})
	b := newBench(t, Config{Settings: Settings{"rhel-vex": map[string]any{"url": m.URL + "/vex"}}})
	run := func(result Result, rows int64) {
		t.Helper()
		if err := b.run("rhel-vex"); err != nil {
			t.Fatal(err)
		}
		b.want("rhel-vex", result, rows)
	}
	run(Updated, 1)
	// The archive of the mirror is of March 2026, and the local clock is not.
	at := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	m.changed("2026/cve-2026-1001.json", vexDocument("CVE-2026-1001", "7.76.1-30.el9"), at)
	run(Updated, 2)
	m.changed("2026/cve-2026-1002.json", vexDocument("CVE-2026-1002", "7.76.1-30.el9"), at.Add(-time.Hour))
	run(Updated, 3)
	m.put("/vex/deletions.csv", fmt.Appendf(nil, "%q,%q\n", "2026/cve-2026-1000.json", at.Add(time.Minute).Format(time.RFC3339)))
	run(Updated, 2)
	run(Unchanged, 2)
	if n := m.count("GET /vex/2026/cve-2026-1001.json"); n != 1 {
		t.Errorf("a document that was read is read again %d times", n)
	}
}
