package houserules_test

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the list of packages in the architecture anew")

const (
	mapFile  = "docs/ARCHITECTURE.md"
	mapBegin = "<!-- made from the package comments and imports by `make docs`; do not edit -->\n"
	mapEnd   = "<!-- end of the packages -->\n"
)

// The architecture lists the packages that are there, what each is, and which of
// ours it stands on.
func TestMapIsTrue(t *testing.T) {
	t.Parallel()
	_, files := sources(t)
	got := packageTable(files)
	path := filepath.Join(root, filepath.FromSlash(mapFile))
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := bytes.Cut(text, []byte(mapBegin))
	listed, after, ok2 := bytes.Cut(rest, []byte(mapEnd))
	if !ok || !ok2 {
		t.Fatalf("%s has no list of packages between %q and %q", mapFile, mapBegin, mapEnd)
	}
	if string(listed) == got {
		return
	}
	if !*update {
		t.Fatalf("%s does not list the packages that are there; `make docs` writes the list anew. Want:\n%s", mapFile, got)
	}
	if err := os.WriteFile(path, slices.Concat(before, []byte(mapBegin), []byte(got), []byte(mapEnd), after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// packageTable is a row a package: its path, the first sentence of its comment,
// and the packages of ours that it imports outside of tests.
func packageTable(files []source) string {
	says := map[string]string{}
	imports := map[string]map[string]bool{}
	for _, f := range files {
		if f.test {
			continue
		}
		if imports[f.dir] == nil {
			imports[f.dir] = map[string]bool{}
		}
		if f.file.Doc != nil {
			says[f.dir] = firstSentence(f.file.Name.Name, f.file.Doc.Text())
		}
		for _, spec := range f.file.Imports {
			if own, ok := strings.CutPrefix(strings.Trim(spec.Path.Value, `"`), module+"/"); ok {
				imports[f.dir]["`"+own+"`"] = true
			}
		}
	}
	var b strings.Builder
	b.WriteString("\n| package | what it is | stands on |\n|---|---|---|\n")
	for _, dir := range slices.Sorted(maps.Keys(imports)) {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", dir, says[dir], strings.Join(slices.Sorted(maps.Keys(imports[dir])), " "))
	}
	b.WriteString("\n")
	return b.String()
}

// firstSentence is what a package comment begins with, without "Package name".
func firstSentence(name, text string) string {
	text = strings.Join(strings.Fields(text), " ")
	text = strings.TrimPrefix(text, "Package "+name+" ")
	if i := strings.Index(text, ". "); i >= 0 {
		text = text[:i]
	}
	return strings.NewReplacer("|", "\\|", "[", "", "]", "").Replace(strings.TrimSuffix(text, "."))
}
