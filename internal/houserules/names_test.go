package houserules_test

import (
	"go/ast"
	"go/token"
	"slices"
	"strings"
	"testing"
)

// mostMethods is how many methods a type of the notifier may have: it once was one
// type of 84.
const mostMethods = 25

func TestNoTypeOfTheNotifierDoesEverything(t *testing.T) {
	t.Parallel()
	_, files := sources(t)
	methods := map[string]int{} // by directory and type
	for _, f := range files {
		if f.test || !under(f.dir, "notifier") {
			continue
		}
		for _, d := range f.file.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv != nil {
				methods[f.dir+"."+receiver(fn.Recv.List[0].Type)]++
			}
		}
	}
	if len(methods) < 10 {
		t.Fatalf("methods of only %d types found", len(methods))
	}
	for name, n := range methods {
		if n > mostMethods {
			t.Errorf("%s has %d methods, over the limit of %d: it is several things", name, n, mostMethods)
		}
	}
}

func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.IndexListExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}

// mostNames bounds the median, over the notifier's packages, of what a package
// exports: its types, functions, variables and constants, without fields and
// methods. An interface that only its own package's options name is not exported.
const mostNames = 8

func TestTheNotifiersPackagesExportLittle(t *testing.T) {
	t.Parallel()
	_, files := sources(t)
	exported := map[string][]string{}
	for _, f := range files {
		if f.test || !under(f.dir, "notifier") {
			continue
		}
		for _, d := range f.file.Decls {
			for _, name := range declared(d) {
				if ast.IsExported(name) {
					exported[f.dir] = append(exported[f.dir], name)
				}
			}
		}
	}
	var counts []int
	for _, names := range exported {
		counts = append(counts, len(names))
	}
	slices.Sort(counts)
	if len(counts) == 0 {
		t.Fatal("no packages found")
	}
	if median := (counts[(len(counts)-1)/2] + counts[len(counts)/2]) / 2; median > mostNames {
		var all strings.Builder
		for dir, names := range exported {
			slices.Sort(names)
			all.WriteString("\n" + dir + ": " + strings.Join(names, " "))
		}
		t.Errorf("the packages of the notifier export %v names, %d in the median, over the limit of %d:%s", counts, median, mostNames, all.String())
	}
}

// declared are the names of a declaration on the level of the package, methods
// apart.
func declared(d ast.Decl) []string {
	var out []string
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil {
			out = append(out, d.Name.Name)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				out = append(out, s.Name.Name)
			case *ast.ValueSpec:
				if d.Tok == token.VAR || d.Tok == token.CONST {
					for _, n := range s.Names {
						out = append(out, n.Name)
					}
				}
			}
		}
	}
	return out
}
