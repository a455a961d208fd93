package access

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// SessionLife is how long a browser's session lasts that is not used.
const SessionLife = 12 * time.Hour

const (
	// sessionMost is how long one lasts however much it is used.
	sessionMost = 7 * 24 * time.Hour
	// sessionRenew is the age at which a session gets a new secret, sessionGrace
	// how long the old one goes on working for requests under way.
	sessionRenew = time.Hour
	sessionGrace = time.Minute
)

// Sessions keep who is logged in with a browser. A session stands for a token
// and ends with it; its secret is stored as a hash alone. It is safe for
// concurrent use.
type Sessions struct {
	pool *pgxpool.Pool
}

// NewSessions returns the sessions of the migrated database that pool leads to.
func NewSessions(pool *pgxpool.Pool) *Sessions { return &Sessions{pool: pool} }

// Session is a session that is good now.
type Session struct {
	Principal Principal
	// FormKey is what every form shown to the session carries. It is the same
	// as long as the session lasts, and tells nothing of its secret.
	FormKey string
	// Renewed is a new secret, which replaces the one that was given; empty
	// while that is young.
	Renewed string
}

const beginSession = `
INSERT INTO tocsin.session (hash, form_key, token_id, begun_at, made_at, expires_at)
SELECT @hash, @form_key, id, b.begun, now(), least(now() + @life::interval, b.begun + @most::interval)
FROM tocsin.token, (SELECT coalesce(@begun::timestamptz, now()) AS begun) b
WHERE id = @token`

const deleteEnded = `DELETE FROM tocsin.session WHERE expires_at < now()`

// Begin makes a session of a token and returns its secret.
func (s *Sessions) Begin(ctx context.Context, token string) (string, error) {
	if _, err := s.pool.Exec(ctx, deleteEnded); err != nil {
		return "", fmt.Errorf("remove sessions that have ended: %w", err)
	}
	return s.begin(ctx, token, randomText(), nil)
}

func (s *Sessions) begin(ctx context.Context, token, formKey string, begun *time.Time) (string, error) {
	id, err := uuid.Parse(token)
	if err != nil {
		return "", fmt.Errorf("begin a session: %w", err)
	}
	secret := randomText()
	tag, err := s.pool.Exec(ctx, beginSession, pgx.NamedArgs{
		"hash": hash(secret), "form_key": formKey, "token": id, "begun": begun, "life": SessionLife, "most": sessionMost,
	})
	if err != nil {
		return "", fmt.Errorf("begin a session: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return "", ErrUnknown
	}
	return secret, nil
}

const (
	findSession = `
SELECT t.id, t.name, t.owner, t.scopes, s.form_key, s.begun_at, s.made_at < now() - @renew::interval AND s.expires_at > now() + @grace::interval,
       t.last_used_at
FROM tocsin.session s JOIN tocsin.token t ON t.id = s.token_id
WHERE s.hash = @hash AND s.expires_at > now() AND t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > now())`

	retireSession = `UPDATE tocsin.session SET expires_at = now() + @grace::interval WHERE hash = @hash AND expires_at > now() + @grace::interval`
)

// Resume finds who a session's secret, shown from an address, belongs to. What is
// no session, has ended, or whose token has, is [ErrUnknown]. It counts as a use of
// the token.
func (s *Sessions) Resume(ctx context.Context, from, secret string) (Session, error) {
	var (
		out   Session
		token uuid.UUID
		begun time.Time
		old   bool
		used  *time.Time
	)
	args := pgx.NamedArgs{"hash": hash(secret), "renew": sessionRenew, "grace": sessionGrace}
	err := s.pool.QueryRow(ctx, findSession, args).Scan(&token, &out.Principal.Name, &out.Principal.Owner, &out.Principal.Scopes, &out.FormKey, &begun, &old, &used)
	if errors.Is(err, pgx.ErrNoRows) {
		return Session{}, ErrUnknown
	}
	if err != nil {
		return Session{}, fmt.Errorf("look a session up: %w", err)
	}
	out.Principal.Token = token.String()
	if used == nil || time.Since(*used) > time.Minute {
		if _, err := s.pool.Exec(ctx, touchToken, pgx.NamedArgs{"id": token, "from": from}); err != nil {
			return Session{}, fmt.Errorf("noting the use of a token: %w", err)
		}
	}
	if !old {
		return out, nil
	}
	tag, err := s.pool.Exec(ctx, retireSession, args)
	if err != nil {
		return Session{}, fmt.Errorf("renew a session: %w", err)
	}
	if tag.RowsAffected() == 0 { // another request has renewed it meanwhile
		return out, nil
	}
	out.Renewed, err = s.begin(ctx, out.Principal.Token, out.FormKey, &begun)
	return out, err
}

const goesOn = `
SELECT EXISTS (
  SELECT FROM tocsin.session s JOIN tocsin.token t ON t.id = s.token_id
  WHERE s.form_key = @form_key AND s.expires_at > now() AND t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > now()))`

// GoesOn reports whether the session with a form key is good still.
func (s *Sessions) GoesOn(ctx context.Context, formKey string) (bool, error) {
	var on bool
	if err := s.pool.QueryRow(ctx, goesOn, pgx.NamedArgs{"form_key": formKey}).Scan(&on); err != nil {
		return false, fmt.Errorf("look a session up: %w", err)
	}
	return on, nil
}

const (
	deleteSession  = `DELETE FROM tocsin.session WHERE form_key = @form_key`
	deleteSessions = `DELETE FROM tocsin.session WHERE token_id = @token::uuid`
)

// End ends one session, by its form key: under its present secret and those that
// it replaced.
func (s *Sessions) End(ctx context.Context, formKey string) error {
	if _, err := s.pool.Exec(ctx, deleteSession, pgx.NamedArgs{"form_key": formKey}); err != nil {
		return fmt.Errorf("end a session: %w", err)
	}
	return nil
}

// EndAll ends every session of a token.
func (s *Sessions) EndAll(ctx context.Context, token string) error {
	if _, err := s.pool.Exec(ctx, deleteSessions, pgx.NamedArgs{"token": token}); err != nil {
		return fmt.Errorf("end all sessions of a token: %w", err)
	}
	return nil
}

// randomText is 256 random bits.
func randomText() string {
	b := make([]byte, 32)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}
