package indexer

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// A digest of several platforms has no row: what its tags stand for goes with
// the tags.
const dropNames = `
DELETE FROM tocsin.name n USING tocsin.manifest m
WHERE m.id = n.manifest_id
  AND CASE WHEN @tag <> '' THEN n.name = @repository || ':' || @tag
           ELSE m.digest = @digest AND (starts_with(n.name, @repository || ':') OR starts_with(n.name, @repository || '@')) END`

// Unname takes note that a registry has deleted a tag of a repository or, with an
// empty tag, a digest: no name of the repository stands for it any more. It
// returns how many did. An image without any name left is superseded, and
// retired in time; what else is known of it stays until then.
func (ix *Indexer) Unname(ctx context.Context, repository, tag, digest string) (int, error) {
	done, err := ix.opts.Pool.Exec(ctx, dropNames, pgx.NamedArgs{"repository": repository, "tag": tag, "digest": digest})
	if err != nil {
		return 0, fmt.Errorf("forget names of %s: %w", repository, err)
	}
	return int(done.RowsAffected()), nil
}
