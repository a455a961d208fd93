package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A Server is what a PostgreSQL server says of itself.
type Server struct {
	Version           int // 150004 for 15.4
	VersionText       string
	FullPageWrites    bool
	Fsync             bool
	SynchronousCommit bool // "local" and stronger
	MaxConnections    int
	Connections       int // of everybody, now
	Time              time.Time
	Bytes             int64 // of the database
}

const examineServer = `
SELECT current_setting('server_version_num')::int AS version, current_setting('server_version') AS version_text,
       current_setting('full_page_writes')::bool AS full_page_writes, current_setting('fsync')::bool AS fsync,
       current_setting('synchronous_commit') <> 'off' AS synchronous_commit,
       current_setting('max_connections')::int AS max_connections, (SELECT count(*) FROM pg_stat_activity)::int AS connections,
       clock_timestamp() AS time, pg_database_size(current_database()) AS bytes`

// Examine asks a server about itself.
func Examine(ctx context.Context, pool *pgxpool.Pool) (Server, error) {
	rows, err := pool.Query(ctx, examineServer)
	if err != nil {
		return Server{}, fmt.Errorf("ask PostgreSQL about itself: %w", err)
	}
	s, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Server])
	if err != nil {
		return Server{}, fmt.Errorf("ask PostgreSQL about itself: %w", err)
	}
	return s, nil
}
