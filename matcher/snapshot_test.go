package matcher_test

import (
	"testing"

	"github.com/quay/claircore"
)

// A snapshot describes every manifest as its indexed event would now, page by
// page, and leaves out what was deleted.
func TestSnapshot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.index("web", deb("bash", "5.2", "bash"), deb("zlib1g", "1.2", "zlib"))
	w.index("gone", deb("bash", "5.2", "bash"))
	w.index("fixed", deb("bash", "5.4", "bash"))
	w.update("debian", debVuln("CVE-2020-0001", "bash", "5.3", severity(claircore.Critical)))
	w.process()
	if err := w.engine.Forget(t.Context(), w.ids["gone"]); err != nil {
		t.Fatal(err)
	}
	first, err := w.engine.Snapshot(t.Context(), 0, 1)
	if err != nil || len(first) != 1 {
		t.Fatalf("the first page is %+v, %v", first, err)
	}
	rest, err := w.engine.Snapshot(t.Context(), first[0].ManifestID, 10)
	if err != nil || len(rest) != 1 {
		t.Fatalf("the rest is %+v, %v", rest, err)
	}
	web, fixed := first[0], rest[0]
	if web.Data.Manifest.Names[0] != "web" || web.Data.Packages != 2 || web.Data.Vulnerabilities.Critical != 1 || !web.Data.Snapshot ||
		*web.Extensions.Severity != "Critical" || !*web.Extensions.Fixable || web.InventoryID == 0 || web.NamingID == 0 {
		t.Errorf("web is %+v", web)
	}
	if fixed.Data.Manifest.Names[0] != "fixed" || fixed.Data.Vulnerabilities.Critical != 0 || fixed.Extensions.Severity != nil {
		t.Errorf("fixed is %+v", fixed)
	}
}
