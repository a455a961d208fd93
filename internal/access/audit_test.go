package access_test

import (
	"bytes"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tocsin.dev/tocsin/internal/access"
	"tocsin.dev/tocsin/internal/postgres/postgrestest"
)

// The first use of a token, and the first of a day, is an entry; the others are not.
func TestUseOfTokensIsSampled(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := postgrestest.New(t)
	s, log := access.NewStore(pool), access.NewAudit(pool, time.Hour, slog.New(slog.DiscardHandler))
	tok, secret, err := s.Create(ctx, "ci", "", []access.Scope{access.Read}, nil)
	if err != nil {
		t.Fatal(err)
	}
	used := func() (out []string) {
		for range 3 {
			if _, err := s.Authenticate(ctx, "192.0.2.7", secret); err != nil {
				t.Fatal(err)
			}
		}
		list, _, err := log.List(ctx, access.AuditQuery{Actor: tok.ID.String(), Limit: 10})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			if e.Remote != "192.0.2.7" || e.Object != tok.ID.String() || e.Owner != "ci" {
				t.Errorf("%+v", e)
			}
			out = append(out, e.Action)
		}
		return out
	}
	if got := strings.Join(used(), " "); got != "tokens.first_use" {
		t.Errorf("first day: %q", got)
	}
	if _, err := pool.Exec(ctx, `UPDATE tocsin.token SET last_used_at = now() - interval '25 hours'`); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(used(), " "); got != "tokens.daily_use tokens.first_use" {
		t.Errorf("next day: %q", got)
	}
}

func TestFirstTokenIsWrittenDownOnce(t *testing.T) {
	t.Parallel()
	pool := postgrestest.New(t)
	s, log := access.NewStore(pool), access.NewAudit(pool, time.Hour, slog.New(slog.DiscardHandler))
	for range 2 {
		if _, err := s.Bootstrap(t.Context(), filepath.Join(t.TempDir(), access.File)); err != nil {
			t.Fatal(err)
		}
	}
	list, _, err := log.List(t.Context(), access.AuditQuery{Action: "tokens", Limit: 10})
	if err != nil || len(list) != 1 || list[0].Action != "tokens.bootstrap" || list[0].Actor != access.Tocsin {
		t.Errorf("%+v, %v", list, err)
	}
}

// Entries go by the database's clock, and their going is an entry.
func TestAuditLogIsTrimmed(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := postgrestest.New(t)
	var logged bytes.Buffer
	log := access.NewAudit(pool, 24*time.Hour, slog.New(slog.NewTextHandler(&logged, nil)))
	for range 3 {
		if _, err := log.Begin(ctx, access.Entry{Actor: "ci", Action: "images.create"}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := pool.Exec(ctx, `UPDATE tocsin.audit SET at = at - interval '25 hours' WHERE id <> (SELECT max(id::text)::uuid FROM tocsin.audit)`); err != nil {
		t.Fatal(err)
	}
	if err := log.Trim(ctx); err != nil {
		t.Fatal(err)
	}
	list, _, err := log.List(ctx, access.AuditQuery{Limit: 10})
	if err != nil || len(list) != 2 || list[0].Action != "audit.trim" || list[0].Detail["entries"] != 2.0 || list[1].Action != "images.create" {
		t.Errorf("%+v, %v; want the new entry and one that says two went", list, err)
	}
	if !strings.Contains(logged.String(), "entries=2") {
		t.Errorf("logged %s", logged.String())
	}
}
