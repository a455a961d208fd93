package jobs

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// hurrySQL makes a job that waits for another attempt due.
const hurrySQL = `
UPDATE tocsin.job SET next_run_at = now(), published_at = NULL, updated_at = now()
WHERE id = @id AND state = 'queued' AND next_run_at > now()
RETURNING ` + columns

// Hurry makes a job that waits between two attempts due now. It leaves any other
// job as it is.
func (s *Store) Hurry(ctx context.Context, id uuid.UUID) error {
	job, err := one(ctx, s.pool, hurrySQL, pgx.NamedArgs{"id": id})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("hurry job %s: %w", id, err)
	}
	s.hand(ctx, job)
	return nil
}
