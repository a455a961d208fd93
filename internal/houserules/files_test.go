package houserules_test

import (
	"bytes"
	"go/ast"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// longest is how many lines a file may have.
const longest = 600

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	t.Parallel()
	_, files := sources(t)
	comment := map[string]string{} // by directory
	name := map[string]string{}
	for _, f := range files {
		if f.test {
			continue
		}
		name[f.dir] = f.file.Name.Name
		if f.file.Doc != nil {
			comment[f.dir] = f.file.Doc.Text()
		}
	}
	for dir, n := range name {
		want := "Package " + n + " "
		if n == "main" {
			want = "" // a command says in its own words what it is
		}
		if comment[dir] == "" || !strings.HasPrefix(comment[dir], want) {
			t.Errorf("%s has no package comment that begins with %q", dir, want)
		}
	}
}

func TestNamesSaySomething(t *testing.T) {
	t.Parallel()
	empty := []string{"util", "utils", "common", "helper", "helpers", "manager", "misc", "base", "shared", "lib", "models", "types"}
	_, files := sources(t)
	for _, f := range files {
		for part := range strings.SplitSeq(f.dir, "/") {
			if slices.Contains(empty, part) {
				t.Errorf("%s is in a package called %s, which could hold anything", f.path, part)
			}
		}
		if slices.Contains(empty, f.file.Name.Name) {
			t.Errorf("%s is of package %s, which could hold anything", f.path, f.file.Name.Name)
		}
	}
}

func TestFilesCanBeRead(t *testing.T) {
	t.Parallel()
	_, files := sources(t)
	for _, f := range files {
		if n := bytes.Count(f.text, []byte("\n")); n > longest && !ast.IsGenerated(f.file) {
			t.Errorf("%s has %d lines, over %d: which of its ideas deserves a file of its own?", f.path, n, longest)
		}
	}
}

var unfinished = regexp.MustCompile(`\b(` + "TO" + `DO|FIX` + `ME|X` + `XX)\b`)

func TestNothingIsLeftUnfinished(t *testing.T) {
	t.Parallel()
	fset, files := sources(t)
	for _, f := range files {
		for _, group := range f.file.Comments {
			for _, c := range group.List {
				if m := unfinished.FindString(c.Text); m != "" {
					t.Errorf("%s: %s: finish it, or say in the docs what is missing", fset.Position(c.Pos()), m)
				}
			}
		}
	}
}
