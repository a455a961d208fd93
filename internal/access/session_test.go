package access_test

import (
	"errors"
	"strings"
	"testing"

	"tocsin.dev/tocsin/internal/access"
	"tocsin.dev/tocsin/internal/postgres/postgrestest"
)

func TestSessions(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := postgrestest.New(t)
	tokens, sessions := access.NewStore(pool), access.NewSessions(pool)
	token, _, err := tokens.Create(ctx, "team-a", "", []access.Scope{access.Read}, nil)
	if err != nil {
		t.Fatal(err)
	}
	begin := func() string {
		t.Helper()
		secret, err := sessions.Begin(ctx, token.ID.String())
		if err != nil {
			t.Fatal(err)
		}
		return secret
	}
	set := func(secret, what string) {
		t.Helper()
		tag, err := pool.Exec(ctx, `UPDATE tocsin.session SET `+what+` WHERE hash = sha256($1::text::bytea)`, secret)
		if err != nil || tag.RowsAffected() != 1 {
			t.Fatal(tag, err)
		}
	}
	ended := func(secret string) bool {
		t.Helper()
		_, err := sessions.Resume(ctx, "192.0.2.1", secret)
		if err != nil && !errors.Is(err, access.ErrUnknown) {
			t.Fatal(err)
		}
		return err != nil
	}

	first := begin()
	s, err := sessions.Resume(ctx, "192.0.2.1", first)
	if err != nil || s.Principal.Token != token.ID.String() || s.Principal.Sees() != "team-a" || s.Renewed != "" || s.FormKey == "" {
		t.Fatalf("%+v, %v", s, err)
	}
	if list, err := tokens.List(ctx); err != nil || len(list) != 1 || list[0].LastUsed == nil {
		t.Errorf("a session does not count as a use of its token: %+v, %v", list, err)
	}
	if on, err := sessions.GoesOn(ctx, s.FormKey); err != nil || !on {
		t.Errorf("the session goes on: %t, %v", on, err)
	}
	var shown int
	if err := pool.QueryRow(ctx, `SELECT count(*) FROM tocsin.session s WHERE s::text LIKE '%' || $1 || '%'`, first).Scan(&shown); err != nil || shown != 0 {
		t.Errorf("%d rows hold the secret itself (%v)", shown, err)
	}
	for _, wrong := range []string{"", "x", strings.ToUpper(first), first + "A", s.FormKey, token.ID.String()} {
		if !ended(wrong) {
			t.Errorf("%q is taken for a session", wrong)
		}
	}

	// An old one gets a new secret, once; both work for a while, with the same key
	// for forms.
	set(first, `made_at = made_at - interval '2 hours'`)
	renewed, err := sessions.Resume(ctx, "192.0.2.1", first)
	if err != nil || renewed.Renewed == "" || renewed.FormKey != s.FormKey {
		t.Fatalf("renewed: %+v, %v", renewed, err)
	}
	if again, err := sessions.Resume(ctx, "192.0.2.1", first); err != nil || again.Renewed != "" {
		t.Errorf("renewed twice: %+v, %v", again, err)
	}
	if ended(renewed.Renewed) {
		t.Error("the new secret does not work")
	}
	other := begin()
	if err := sessions.End(ctx, s.FormKey); err != nil {
		t.Fatal(err)
	}
	if !ended(first) || !ended(renewed.Renewed) || ended(other) {
		t.Error("a session that was ended goes on, or another one does not")
	}

	set(other, `expires_at = now() - interval '1 second'`)
	if !ended(other) {
		t.Error("a session goes on after its time")
	}
	a, b := begin(), begin()
	if err := sessions.EndAll(ctx, token.ID.String()); err != nil {
		t.Fatal(err)
	}
	if !ended(a) || !ended(b) {
		t.Error("a session goes on after all were ended")
	}
	c := begin()
	last, err := sessions.Resume(ctx, "192.0.2.1", c)
	if err != nil {
		t.Fatal(err)
	}
	if err := tokens.Revoke(ctx, token.ID); err != nil {
		t.Fatal(err)
	}
	if !ended(c) {
		t.Error("a session goes on after its token")
	}
	if on, err := sessions.GoesOn(ctx, last.FormKey); err != nil || on {
		t.Errorf("the session of a revoked token goes on: %t, %v", on, err)
	}
	if _, err := sessions.Begin(ctx, "not an id"); err == nil {
		t.Error("a session begins for no token")
	}
}
