package houserules_test

import (
	"context"
	"fmt"
	"go/ast"
	"go/constant"
	"go/token"
	"go/types"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/postgres/postgrestest"
)

var (
	// statement is the beginning of SQL that can be prepared.
	statement = regexp.MustCompile(`^\s*(--[^\n]*\n\s*)*(SELECT|INSERT INTO|UPDATE|DELETE FROM|WITH|MERGE INTO)\s`)
	tempTable = regexp.MustCompile(`CREATE TEMP(ORARY)? TABLE [^;]+`)
	// template is SQL that is not whole yet.
	template = regexp.MustCompile(`%[sdvq\[]|\{[a-z_]+\}`)
)

// ownTables are packages that make permanent tables of their own to measure with.
var ownTables = []string{"internal/tools/benchaffected", "internal/tools/benchdelivery"}

// A query is one string constant of the program that is SQL.
type query struct {
	name, at, sql string
}

// constants are the string constants of the program by value, with their
// concatenations worked out. Those that are only parts of others are left out.
func constants(t *testing.T) []query {
	t.Helper()
	fset, files := sources(t)
	byDir := map[string][]*ast.File{}
	for _, f := range files {
		if !f.test && !any(f.dir, ownTables) {
			byDir[f.dir] = append(byDir[f.dir], f.file)
		}
	}
	var out []query
	for dir, fs := range byDir {
		// Imports stay unknown, which the constants of a package rarely mind.
		info := &types.Info{Defs: map[*ast.Ident]types.Object{}, Uses: map[*ast.Ident]types.Object{}}
		cfg := types.Config{Importer: unknown{}, Error: func(error) {}}
		_, _ = cfg.Check(dir, fset, fs, info) // its errors are about the imports
		part := parts(fs, info)
		for ident, obj := range info.Defs {
			c, ok := obj.(*types.Const)
			if !ok || c.Val().Kind() != constant.String || part[obj] {
				continue
			}
			out = append(out, query{name: ident.Name, at: position(fset, ident.Pos()), sql: constant.StringVal(c.Val())})
		}
	}
	return out
}

// parts are the objects that are joined with others by "+".
func parts(files []*ast.File, info *types.Info) map[types.Object]bool {
	out := map[types.Object]bool{}
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			if b, ok := n.(*ast.BinaryExpr); ok && b.Op == token.ADD {
				for _, side := range []ast.Expr{b.X, b.Y} {
					if ident, ok := side.(*ast.Ident); ok && info.Uses[ident] != nil {
						out[info.Uses[ident]] = true
					}
				}
			}
			return true
		})
	}
	return out
}

func position(fset *token.FileSet, p token.Pos) string {
	return strings.TrimPrefix(fset.Position(p).String(), root+"/")
}

// unknown imports nothing.
type unknown struct{}

func (unknown) Import(path string) (*types.Package, error) {
	return nil, fmt.Errorf("%s is not loaded", path)
}

// Every statement of the program is one the migrated schema understands.
func TestSQLIsUnderstood(t *testing.T) {
	t.Parallel()
	pool := postgrestest.New(t)
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(t.Context()))

	all := constants(t)
	// Temporary tables that statements expect; where two have one name, the
	// first will do.
	for _, q := range all {
		for _, sql := range tempTable.FindAllString(q.sql, -1) {
			if err := try(t.Context(), tx, func() error { _, err := tx.Exec(t.Context(), sql); return err }); err != nil {
				t.Logf("%s: %s: %v", q.at, q.name, err)
			}
		}
	}
	n := 0
	for _, q := range all {
		if !statement.MatchString(q.sql) || template.MatchString(q.sql) {
			continue
		}
		n++
		sql, _, err := pgx.NamedArgs{}.RewriteQuery(t.Context(), conn.Conn(), q.sql, nil)
		if err != nil {
			t.Errorf("%s: %s: %v", q.at, q.name, err)
			continue
		}
		err = try(t.Context(), tx, func() error {
			_, err := tx.Prepare(t.Context(), fmt.Sprint("q", n), sql)
			return err
		})
		if err != nil {
			t.Errorf("%s: %s: %v", q.at, q.name, err)
		}
	}
	if n < 30 {
		t.Errorf("only %d statements found", n)
	}
	t.Logf("%d statements", n)
}

// try undoes what fails and leaves the transaction usable.
func try(ctx context.Context, tx pgx.Tx, do func() error) error {
	if _, err := tx.Exec(ctx, `SAVEPOINT attempt`); err != nil {
		return err
	}
	err := do()
	if err != nil {
		if _, e := tx.Exec(ctx, `ROLLBACK TO SAVEPOINT attempt`); e != nil {
			return e
		}
	}
	return err
}
