package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// AfterCommit has f called once, right after tx has been committed, and not at
// all if it is rolled back. tx may be a savepoint of the transaction that is
// meant. Of several functions with one key, the first is called. f is called by
// whoever commits and must not block. It is for hints alone: a process may die
// between the commit and the call.
//
// It works on connections of pools that [Open] made; on others f is not called.
func AfterCommit(tx pgx.Tx, key any, f func()) {
	data := tx.Conn().PgConn().CustomData()
	hooks, _ := data[hooksKey].(map[any]func())
	if hooks == nil {
		hooks = map[any]func(){}
		data[hooksKey] = hooks
	}
	if hooks[key] == nil {
		hooks[key] = f
	}
}

// hooksKey is where a connection keeps the functions of its transaction.
const hooksKey = "tocsin.dev/tocsin/internal/postgres.AfterCommit"

// commits is the tracer that sees transactions end.
type commits struct{}

// TraceQueryStart implements pgx.QueryTracer.
func (commits) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

// TraceQueryEnd implements pgx.QueryTracer.
func (commits) TraceQueryEnd(_ context.Context, conn *pgx.Conn, end pgx.TraceQueryEndData) {
	tag := end.CommandTag.String()
	if tag != "COMMIT" && tag != "ROLLBACK" {
		return
	}
	data := conn.PgConn().CustomData()
	hooks, _ := data[hooksKey].(map[any]func())
	if len(hooks) == 0 || tag == "ROLLBACK" && conn.PgConn().TxStatus() != 'I' { // back to a savepoint
		return
	}
	delete(data, hooksKey)
	if tag == "COMMIT" && end.Err == nil {
		for _, f := range hooks {
			f()
		}
	}
}
