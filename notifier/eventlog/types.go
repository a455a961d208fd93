package eventlog

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

const eventTypes = `SELECT id, type FROM tocsin.event WHERE id = ANY(@ids)`

// Types are the types of events by id; those that retention dropped are
// absent.
func (l *Log) Types(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]string, error) {
	types := make(map[uuid.UUID]string, len(ids))
	rows, err := l.Pool.Query(ctx, eventTypes, pgx.NamedArgs{"ids": ids})
	if err != nil {
		return nil, fmt.Errorf("eventlog: read types of events: %w", err)
	}
	var id uuid.UUID
	var name string
	if _, err := pgx.ForEachRow(rows, []any{&id, &name}, func() error { types[id] = name; return nil }); err != nil {
		return nil, fmt.Errorf("eventlog: read types of events: %w", err)
	}
	return types, nil
}
