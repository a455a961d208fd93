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

const adoptToken = `
INSERT INTO tocsin.token (name, owner, scopes, hash)
VALUES ('first start', 'local', '{admin}', @hash)
ON CONFLICT (hash) DO NOTHING`

// Bootstrap sees to it that the file at path holds an admin token which the
// database knows. On first start it makes one, readable by its owner alone. A
// file that is already there is kept, and adopted by a database that was not.
// It returns whether the file is new.
//
// Revoking that token and removing the file makes the next start write another
// one; revoking it and leaving the file does not keep it out for longer than
// until the next start.
func (s *Store) Bootstrap(ctx context.Context, path string) (bool, error) {
	secret, err := readSecret(path)
	created := false
	if errors.Is(err, fs.ErrNotExist) {
		secret, err = writeSecret(path)
		created = err == nil
		if errors.Is(err, fs.ErrExist) { // another process was quicker
			secret, err = readSecret(path)
		}
	}
	if err != nil {
		return false, err
	}
	if _, err := s.pool.Exec(ctx, adoptToken, pgx.NamedArgs{"hash": hash(secret)}); err != nil {
		return false, fmt.Errorf("storing the first token: %w", err)
	}
	return created, nil
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
