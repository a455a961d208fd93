// Package postgres opens connection pools, migrates the database and, where the
// user names no server, runs a private cluster from the PostgreSQL binaries of
// this machine.
//
// It guarantees that a pool from [Open] understands claircore's column types
// and finds claircore's tables without a schema and Tocsin's only with theirs, and that any number of processes may call [Migrate] on one database at once:
// one migrates, the others wait and find it done. It holds no SQL of the domain;
// that lives with the package whose concept it stores.
//
// It does not retry statements and does not hide that a connection was lost;
// callers own their transactions and decide what may be repeated.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/quay/claircore/datastore/postgres/types"
)

// connectTimeout bounds one attempt to connect, so that a server that accepts
// and then says nothing does not hold a caller without a deadline.
const connectTimeout = 10 * time.Second

// An Option changes how [Open] sets up a pool.
type Option func(*pgxpool.Config)

// WithMaxConns sets the most connections the pool opens. Without it the pool
// takes what the URL's pool_max_conns says, or pgx's default of the larger of 4
// and the number of CPUs.
func WithMaxConns(n int32) Option {
	return func(c *pgxpool.Config) { c.MaxConns = n }
}

// WithApplicationName names this process in pg_stat_activity, unless the URL
// names it.
func WithApplicationName(name string) Option {
	return func(c *pgxpool.Config) {
		if c.ConnConfig.RuntimeParams["application_name"] == "" {
			c.ConnConfig.RuntimeParams["application_name"] = name
		}
	}
}

// WithTransactionPooling says that the URL is a pooler's that gives a connection
// of its own to each transaction alone, such as PgBouncer's in transaction mode:
// nothing outlives one. Statements are then described once and parsed each time,
// and [Open] insists on a default search path that [PreparePooling] sees to.
// [Migrate] needs a pool without this.
func WithTransactionPooling() Option {
	return func(c *pgxpool.Config) {
		c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
		c.ConnConfig.AfterConnect = nil
	}
}

const (
	// searchPathSQL is said on every new connection, since poolers refuse it among
	// the parameters of one. A user named like our schema would otherwise find its
	// tables before claircore's, some of which have the same names.
	searchPathSQL = `SET search_path TO public`

	currentSchemaSQL = `SELECT coalesce(current_schema(), '')`

	userSchemaSQL = `SELECT current_user, current_database(), EXISTS (SELECT FROM pg_namespace WHERE nspname = current_user)`
)

// PreparePooling gives the pool's user the default search path that connections
// through a pooler in transaction mode need, where its own would be another: if a
// schema has its name. It counts for new connections of the pooler to the server.
func PreparePooling(ctx context.Context, pool *pgxpool.Pool) error {
	var user, database string
	var named bool
	if err := pool.QueryRow(ctx, userSchemaSQL).Scan(&user, &database, &named); err != nil || !named {
		return err
	}
	sql := "ALTER ROLE " + pgx.Identifier{user}.Sanitize() + " IN DATABASE " + pgx.Identifier{database}.Sanitize() + " SET search_path TO public"
	if _, err := pool.Exec(ctx, sql); err != nil {
		return fmt.Errorf("default search path of user %s: %w", user, err)
	}
	return nil
}

// checkSchema reports an error if connections find tables of another schema first.
func checkSchema(ctx context.Context, pool *pgxpool.Pool) error {
	var schema string
	if err := pool.QueryRow(ctx, currentSchemaSQL).Scan(&schema); err != nil {
		return err
	}
	if schema != "public" {
		return fmt.Errorf("connections through the pooler look into schema %q first, not public (have the pooler connect anew, as with PgBouncer's RECONNECT; "+
			"the user's default is ALTER ROLE … IN DATABASE … SET search_path TO public)", schema)
	}
	return nil
}

// Open returns a pool of connections to the database at url, which may be a
// URL or a keyword/value string as libpq knows them. It connects once, so that
// a wrong address or password shows here. The caller closes the pool.
func Open(ctx context.Context, url string, opts ...Option) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		// pgx leaves the password out of this error.
		return nil, fmt.Errorf("database URL: %w", err)
	}
	if cfg.ConnConfig.ConnectTimeout == 0 {
		cfg.ConnConfig.ConnectTimeout = connectTimeout
	}
	cfg.ConnConfig.AfterConnect = func(ctx context.Context, c *pgconn.PgConn) error {
		_, err := c.Exec(ctx, searchPathSQL).ReadAll()
		return err
	}
	cfg.AfterConnect = types.ConnectRegisterTypes
	cfg.ConnConfig.Tracer = commits{}
	for _, o := range opts {
		o(cfg)
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("database pool: %w", err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("database %q at %s:%d: %w%s", cfg.ConnConfig.Database, cfg.ConnConfig.Host, cfg.ConnConfig.Port, err, hint(err))
	}
	if cfg.ConnConfig.AfterConnect == nil {
		if err := checkSchema(ctx, pool); err != nil {
			pool.Close()
			return nil, fmt.Errorf("database %q at %s:%d: %w", cfg.ConnConfig.Database, cfg.ConnConfig.Host, cfg.ConnConfig.Port, err)
		}
	}
	return pool, nil
}

// hint says what a person can do about a failed connection.
func hint(err error) string {
	if pe, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch pe.Code {
		case "28P01", "28000":
			return " (check user and password in the database URL)"
		case "3D000":
			return " (create the database, or name an existing one in the database URL)"
		case "53300":
			return " (the server has no free connections: raise max_connections or lower the pool size)"
		}
		return ""
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return " (is the server running and reachable?)"
	}
	return ""
}
