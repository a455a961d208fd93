package access_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"tocsin.dev/tocsin/internal/access"
	"tocsin.dev/tocsin/internal/postgres/postgrestest"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

func TestTokenLife(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := postgrestest.New(t)
	s := access.NewStore(pool)

	tok, secret, err := s.Create(ctx, "team-a", "", []access.Scope{access.Read, access.Subscriptions}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(secret, access.Prefix) || tok.Owner != "team-a" {
		t.Errorf("created %+v with secret %q", tok, secret)
	}
	p, err := s.Authenticate(ctx, "", secret)
	if err != nil {
		t.Fatal(err)
	}
	if !p.May(access.Read) || p.May(access.Publish) || p.May(access.Admin) || p.Sees() != "team-a" {
		t.Errorf("principal %+v", p)
	}
	for _, wrong := range []string{"", "tocsin_", secret + "A", secret[:len(secret)-1], strings.ToUpper(secret), "tocsin_" + strings.Repeat("A", 43)} {
		if _, err := s.Authenticate(ctx, "", wrong); !errors.Is(err, access.ErrUnknown) {
			t.Errorf("Authenticate(%q) = %v, want ErrUnknown", wrong, err)
		}
	}

	var stored int
	if err := pool.QueryRow(ctx, `SELECT count(*) FROM tocsin.token t WHERE t::text LIKE '%' || $1 || '%'`,
		strings.TrimPrefix(secret, access.Prefix)).Scan(&stored); err != nil || stored != 0 {
		t.Errorf("%d rows hold the secret itself (%v)", stored, err)
	}
	list, err := s.List(ctx)
	if err != nil || len(list) != 1 || list[0].LastUsed == nil {
		t.Errorf("List = %+v, %v; want one used token", list, err)
	}
	if err := s.Revoke(ctx, tok.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Authenticate(ctx, "", secret); !errors.Is(err, access.ErrUnknown) {
		t.Errorf("a revoked token gave %v", err)
	}
	if err := s.Revoke(ctx, uuid.New()); !errors.Is(err, access.ErrNotFound) {
		t.Errorf("revoking nothing gave %v", err)
	}
}

func TestExpiredTokenIsRefused(t *testing.T) {
	t.Parallel()
	s := access.NewStore(postgrestest.New(t))
	past := time.Now().Add(-time.Second)
	_, secret, err := s.Create(t.Context(), "old", "", []access.Scope{access.Admin}, &past)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Authenticate(t.Context(), "", secret); !errors.Is(err, access.ErrUnknown) {
		t.Errorf("an expired token gave %v", err)
	}
}

func TestBootstrapIsOneTokenForAll(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := access.NewStore(postgrestest.New(t))
	path := filepath.Join(t.TempDir(), "deep", access.File)

	var wg sync.WaitGroup
	created := make(chan bool, 8)
	for range 8 {
		wg.Go(func() {
			c, err := s.Bootstrap(ctx, path)
			if err != nil {
				t.Error(err)
			}
			created <- c
		})
	}
	wg.Wait()
	close(created)
	n := 0
	for c := range created {
		if c {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d starts made the file, want 1", n)
	}
	fi, err := os.Stat(path)
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", fi.Mode(), err)
	}
	b, _ := os.ReadFile(path)
	if p, err := s.Authenticate(ctx, "", strings.TrimSpace(string(b))); err != nil || p.Sees() != "" {
		t.Errorf("the first token: %+v, %v", p, err)
	}

	// The same data directory with another database.
	other := access.NewStore(postgrestest.New(t))
	if c, err := other.Bootstrap(ctx, path); err != nil || c {
		t.Errorf("adopting: %v, %v", c, err)
	}
	if _, err := other.Authenticate(ctx, "", strings.TrimSpace(string(b))); err != nil {
		t.Errorf("the other database: %v", err)
	}

	// A second data directory does not make a second administrator.
	fresh := filepath.Join(t.TempDir(), access.File)
	if c, err := s.Bootstrap(ctx, fresh); err != nil || c {
		t.Errorf("a fresh data directory: %v, %v", c, err)
	}
	if _, err := os.Stat(fresh); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a fresh data directory has a token: %v", err)
	}
	if list, err := s.List(ctx); err != nil || len(list) != 1 {
		t.Fatalf("%d tokens, %v", len(list), err)
	} else if err := s.Revoke(ctx, list[0].ID); err != nil {
		t.Fatal(err)
	}
	// Revoked, it stays so over restarts, with its file and without.
	for range 2 {
		if _, err := s.Bootstrap(ctx, path); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Authenticate(ctx, "", strings.TrimSpace(string(b))); !errors.Is(err, access.ErrUnknown) {
			t.Errorf("a revoked token after a restart: %v", err)
		}
		if list, err := s.List(ctx); err != nil || len(list) != 0 {
			t.Errorf("%d tokens after revocation, %v", len(list), err)
		}
		if err := os.Rename(path, path+".away"); err != nil {
			break
		}
	}

	if err := os.WriteFile(path, []byte("hello\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Bootstrap(ctx, path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a file with something else gave %v", err)
	}
}

func TestParseScopes(t *testing.T) {
	t.Parallel()
	got, err := access.ParseScopes([]string{"read", " Read", "publish"})
	if err != nil || len(got) != 2 {
		t.Errorf("ParseScopes = %v, %v", got, err)
	}
	for _, bad := range [][]string{nil, {"root"}, {"read", ""}} {
		if got, err := access.ParseScopes(bad); err == nil || !strings.Contains(err.Error(), "admin, read") {
			t.Errorf("ParseScopes(%q) = %v, %v; want an error naming the scopes", bad, got, err)
		}
	}
}
