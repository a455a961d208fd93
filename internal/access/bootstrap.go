package access

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"
)

// File is the name, under the data directory, of the file that holds the
// token made on first start.
const File = "token"

const lockBootstrap = `SELECT pg_advisory_xact_lock(hashtextextended('tocsin.access.bootstrap', 0))`

const hasBootstrap = `SELECT EXISTS (SELECT FROM tocsin.token WHERE bootstrap)`

const insertBootstrap = `
WITH made AS (
  INSERT INTO tocsin.token (name, owner, scopes, hash, bootstrap)
  VALUES ('first start', 'local', '{admin}', @hash, true)
  ON CONFLICT (hash) DO NOTHING RETURNING id
)
INSERT INTO tocsin.audit (actor, action, object, detail)
SELECT @actor, 'tokens.bootstrap', id::text, '{"name": "first start", "scopes": ["admin"]}' FROM made`

// Bootstrap sees to it that the database has had one first token, an admin's, and
// that it is in the file at path, readable by its owner alone. It returns whether
// the file is new.
//
// There is one a database, made once, whoever starts how many processes with how
// many data directories: where the database has had its own, no file is made, and
// one that holds another token is left alone. Revoked, it stays so. A database that
// has had none adopts the token of a file that is there.
func (s *Store) Bootstrap(ctx context.Context, path string) (created bool, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		secret, err := readSecret(path)
		missing := errors.Is(err, fs.ErrNotExist)
		if err != nil && !missing {
			return err
		}
		if _, err := tx.Exec(ctx, lockBootstrap); err != nil {
			return fmt.Errorf("locking the first token: %w", err)
		}
		var has bool
		if err := tx.QueryRow(ctx, hasBootstrap).Scan(&has); err != nil {
			return fmt.Errorf("looking for the first token: %w", err)
		}
		if has {
			return nil
		}
		if missing {
			secret, err = writeSecret(path)
			created = err == nil
			if errors.Is(err, fs.ErrExist) { // written while we waited
				secret, err = readSecret(path)
			}
			if err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, insertBootstrap, pgx.NamedArgs{"hash": hash(secret), "actor": Tocsin}); err != nil {
			return fmt.Errorf("storing the first token: %w", err)
		}
		return nil
	})
	return created && err == nil, err
}

func readSecret(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("reading the token file: %w", err)
	}
	secret := strings.TrimSpace(string(b))
	if !wellFormed(secret) {
		return "", fmt.Errorf("%s does not hold a token; remove it to have a new one made", path)
	}
	return secret, nil
}

// writeSecret writes a new secret so that no reader ever sees half of it, and
// never over a file that is there.
func writeSecret(path string) (string, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fmt.Errorf("writing the token file: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".token-*") // mode 0600
	if err != nil {
		return "", fmt.Errorf("writing the token file: %w", err)
	}
	defer os.Remove(f.Name())
	secret := newSecret()
	_, err = f.WriteString(secret + "\n")
	if err := errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("writing the token file: %w", err)
	}
	if err := os.Link(f.Name(), path); err != nil {
		return "", fmt.Errorf("writing the token file: %w", err)
	}
	return secret, nil
}
