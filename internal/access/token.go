package access

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"tocsin.dev/tocsin/internal/problem"
)

// Prefix starts every token, so that people and secret scanners recognise one.
const Prefix = "tocsin_"

// ErrUnknown means that a token is unknown, revoked or expired. Which of them
// is not told.
var ErrUnknown = errors.New("unknown, revoked or expired token")

// ErrNotFound means that no token has the given id.
var ErrNotFound = problem.New(problem.NotFound, "no such token")

// Token is what is kept of a token.
type Token struct {
	ID        uuid.UUID
	Name      string
	Owner     string
	Scopes    []Scope
	CreatedAt time.Time
	ExpiresAt *time.Time
	// LastUsed is exact to a minute.
	LastUsed *time.Time
}

// Store keeps tokens in Postgres. It is safe for concurrent use.
type Store struct {
	pool *pgxpool.Pool
}

// NewStore returns a store on the migrated database that pool leads to.
func NewStore(pool *pgxpool.Pool) *Store { return &Store{pool: pool} }

const insertToken = `
INSERT INTO tocsin.token (name, owner, scopes, hash, expires_at)
VALUES (@name, @owner, @scopes, @hash, @expires_at)
RETURNING id, name, owner, scopes, created_at, expires_at, last_used_at`

// Create makes a token. An empty owner is the token's name. The secret is
// returned here and nowhere else.
func (s *Store) Create(ctx context.Context, name, owner string, scopes []Scope, expires *time.Time) (Token, string, error) {
	if name == "" {
		return Token{}, "", errors.New("a token needs a name")
	}
	if owner == "" {
		owner = name
	}
	secret := newSecret()
	t, err := s.one(ctx, insertToken, pgx.NamedArgs{
		"name": name, "owner": owner, "scopes": scopeStrings(scopes), "hash": hash(secret), "expires_at": expires,
	})
	if err != nil {
		return Token{}, "", fmt.Errorf("creating token: %w", err)
	}
	return t, secret, nil
}

const authenticateToken = `
SELECT id, name, owner, scopes, created_at, expires_at, last_used_at
  FROM tocsin.token
 WHERE hash = @hash AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())`

// touchToken notes the use of a token, once a minute. Its first use, and the first
// of every day, is in the audit log.
const touchToken = `
WITH before AS (
  SELECT id, last_used_at FROM tocsin.token
   WHERE id = @id AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute') FOR UPDATE
), touched AS (
  UPDATE tocsin.token t SET last_used_at = now() FROM before WHERE t.id = before.id
  RETURNING t.id, t.name, t.owner, before.last_used_at
)
INSERT INTO tocsin.audit (actor, token, owner, action, object, remote)
SELECT name, id, owner, CASE WHEN last_used_at IS NULL THEN 'tokens.first_use' ELSE 'tokens.daily_use' END, id::text, @from FROM touched
WHERE last_used_at IS NULL OR last_used_at < date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'`

// Authenticate finds who a secret, shown from an address, belongs to. Anything that
// is not a valid token is [ErrUnknown]; other errors are the database's.
func (s *Store) Authenticate(ctx context.Context, from, secret string) (Principal, error) {
	if !wellFormed(secret) {
		return Principal{}, ErrUnknown
	}
	t, err := s.one(ctx, authenticateToken, pgx.NamedArgs{"hash": hash(secret)})
	if errors.Is(err, pgx.ErrNoRows) {
		return Principal{}, ErrUnknown
	}
	if err != nil {
		return Principal{}, fmt.Errorf("looking up token: %w", err)
	}
	if t.LastUsed == nil || time.Since(*t.LastUsed) > time.Minute {
		if _, err := s.pool.Exec(ctx, touchToken, pgx.NamedArgs{"id": t.ID, "from": from}); err != nil {
			return Principal{}, fmt.Errorf("noting the use of a token: %w", err)
		}
	}
	return Principal{Token: t.ID.String(), Name: t.Name, Owner: t.Owner, Scopes: t.Scopes}, nil
}

const listTokens = `
SELECT id, name, owner, scopes, created_at, expires_at, last_used_at
  FROM tocsin.token WHERE revoked_at IS NULL ORDER BY created_at, id`

// List returns every token, oldest first.
func (s *Store) List(ctx context.Context) ([]Token, error) {
	rows, err := s.pool.Query(ctx, listTokens)
	if err != nil {
		return nil, fmt.Errorf("listing tokens: %w", err)
	}
	ts, err := pgx.CollectRows(rows, scan)
	if err != nil {
		return nil, fmt.Errorf("listing tokens: %w", err)
	}
	return ts, nil
}

const revokeToken = `UPDATE tocsin.token SET revoked_at = now() WHERE id = @id AND revoked_at IS NULL`

// Revoke ends a token for good: its row stays, so that nothing makes it work again.
func (s *Store) Revoke(ctx context.Context, id uuid.UUID) error {
	tag, err := s.pool.Exec(ctx, revokeToken, pgx.NamedArgs{"id": id})
	if err != nil {
		return fmt.Errorf("revoking token: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return ErrNotFound
	}
	return nil
}

func (s *Store) one(ctx context.Context, sql string, args pgx.NamedArgs) (Token, error) {
	rows, err := s.pool.Query(ctx, sql, args)
	if err != nil {
		return Token{}, err
	}
	return pgx.CollectExactlyOneRow(rows, scan)
}

func scan(row pgx.CollectableRow) (Token, error) {
	var t Token
	err := row.Scan(&t.ID, &t.Name, &t.Owner, &t.Scopes, &t.CreatedAt, &t.ExpiresAt, &t.LastUsed)
	return t, err
}

func scopeStrings(scopes []Scope) []string {
	out := make([]string, len(scopes))
	for i, s := range scopes {
		out[i] = string(s)
	}
	return out
}

// newSecret makes a token of 256 random bits.
func newSecret() string {
	b := make([]byte, 32)
	rand.Read(b)
	return Prefix + base64.RawURLEncoding.EncodeToString(b)
}

func wellFormed(secret string) bool {
	body, ok := strings.CutPrefix(secret, Prefix)
	if !ok {
		return false
	}
	b, err := base64.RawURLEncoding.DecodeString(body)
	return err == nil && len(b) == 32
}

func hash(secret string) []byte {
	h := sha256.Sum256([]byte(secret))
	return h[:]
}
