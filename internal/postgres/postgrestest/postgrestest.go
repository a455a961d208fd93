// Package postgrestest gives every test a real PostgreSQL database of its own.
//
// The first test of a process that asks starts a private server in a temporary
// directory, with its syncing to disk off, and migrates a template database
// once; each database is a copy of it, dropped when its test ends. If
// TOCSIN_TEST_DATABASE_URL names a server whose user may create databases,
// that one is used instead, and test processes share the template.
//
// A package that uses it needs
//
//	func TestMain(m *testing.M) { postgrestest.Main(m) }
//
// which stops the server. A test process that is killed takes its server with
// it on Linux; the directory it leaves behind is removed by the next. Where
// there is a roomy file system in memory, the directory is there.
//
// The command withpostgres, in a directory below, runs any command with one
// server for all of it.
package postgrestest

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"tocsin.dev/tocsin/internal/postgres"
)

// EnvURL names the environment variable with the URL of a server to use.
const EnvURL = "TOCSIN_TEST_DATABASE_URL"

// maxConns bounds the pool of one test, so that many run on one server.
const maxConns = 8

// server is the URL of this process's server, started by the first test that
// needs it; stopServer ends it if this process started it.
var (
	server = sync.OnceValues(func() (string, error) {
		if u := os.Getenv(EnvURL); u != "" {
			return u, nil
		}
		url, stop, err := Serve()
		if err != nil {
			return "", err
		}
		stopMu.Lock()
		defer stopMu.Unlock()
		stopServer = stop
		return url, nil
	})
	stopMu     sync.Mutex
	stopServer = func() error { return nil }
)

// Main runs the tests, stops the server if they started one, and exits.
func Main(m *testing.M) {
	code := m.Run()
	stopMu.Lock()
	defer stopMu.Unlock()
	if err := stopServer(); err != nil {
		fmt.Fprintln(os.Stderr, "postgrestest:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// New returns a pool on a fresh, migrated database, both gone when the test
// has ended. The database's URL is pool.Config().ConnString().
func New(t testing.TB) *pgxpool.Pool {
	t.Helper()
	return open(t, true)
}

// Empty is like [New], but nothing has been migrated.
func Empty(t testing.TB) *pgxpool.Pool {
	t.Helper()
	return open(t, false)
}

func open(t testing.TB, migrated bool) *pgxpool.Pool {
	t.Helper()
	base, err := server()
	if err != nil {
		t.Fatalf("postgrestest: %v", err)
	}
	ctx := t.Context()
	template := "template0"
	if migrated {
		if template, err = migratedTemplate(ctx, base); err != nil {
			t.Fatalf("postgrestest: %v", err)
		}
	}
	name := databaseName(t.Name())
	if err := admin(ctx, base, fmt.Sprintf(createSQL, pgx.Identifier{name}.Sanitize(), template)); err != nil {
		t.Fatalf("postgrestest: %v", err)
	}
	dbURL, err := withDatabase(base, name)
	if err != nil {
		t.Fatalf("postgrestest: %v", err)
	}
	// The test's context ends before its cleanups run.
	t.Cleanup(func() {
		if err := admin(context.WithoutCancel(ctx), base, fmt.Sprintf(dropSQL, pgx.Identifier{name}.Sanitize())); err != nil {
			t.Errorf("postgrestest: %v", err)
		}
	})
	pool, err := postgres.Open(ctx, dbURL, postgres.WithMaxConns(maxConns), postgres.WithApplicationName(t.Name()))
	if err != nil {
		t.Fatalf("postgrestest: %v", err)
	}
	t.Cleanup(func() {
		closed := make(chan struct{})
		go func() {
			pool.Close()
			close(closed)
		}()
		select {
		case <-closed:
		case <-time.After(30 * time.Second):
			t.Error("postgrestest: the test has ended, but holds connections: is something still running?")
		}
	})
	return pool
}

// databaseName makes a unique name that shows the test it belongs to.
func databaseName(test string) string {
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToLower(test))
	return "t_" + clean[:min(len(clean), 40)] + "_" + strings.ToLower(rand.Text()[:12])
}

// withDatabase returns the URL of another database on base's server.
func withDatabase(base, name string) (string, error) {
	u, err := url.Parse(base)
	if err != nil {
		return "", fmt.Errorf("%s must be a URL, as in postgres://user:password@host:port/database", EnvURL)
	}
	u.Path = "/" + name
	return u.String(), nil
}
