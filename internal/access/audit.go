package access

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/internal/text"
)

// Entry is one line of the audit log.
type Entry struct {
	ID      uuid.UUID
	At      time.Time // the database's
	Actor   string    // name of the token, or the part of Tocsin
	Token   *uuid.UUID
	Owner   string // of the token
	Action  string // what was done, as in "subscriptions.pause"
	Object  string // to what
	Detail  map[string]any
	Remote  string // the client's address
	Request string // the request's id, which the server's log has too
	// Status is the HTTP status of the outcome; nil while it is not known, and if
	// the process ended before it was.
	Status *int
}

// Audit is the audit log. It is safe for concurrent use.
type Audit struct {
	pool      *pgxpool.Pool
	log       *slog.Logger
	retention time.Duration
}

// NewAudit returns the audit log in the migrated database that pool leads to. What
// is older than retention is deleted by [Audit.Run]. Every entry goes to log too.
func NewAudit(pool *pgxpool.Pool, retention time.Duration, log *slog.Logger) *Audit {
	return &Audit{pool: pool, log: log, retention: retention}
}

const insertAudit = `
INSERT INTO tocsin.audit (actor, token, owner, action, object, detail, remote, request, status)
VALUES (@actor, @token, @owner, @action, @object, @detail, @remote, @request, @status) RETURNING id`

// Begin writes down what is about to be done. Nothing that is to be audited may be
// done if it fails.
func (a *Audit) Begin(ctx context.Context, e Entry) (id uuid.UUID, err error) {
	err = a.pool.QueryRow(ctx, insertAudit, pgx.NamedArgs{
		"actor": text.Clip(text.Clean(e.Actor), 200), "token": e.Token, "owner": e.Owner, "action": e.Action, "object": text.Clip(e.Object, 1000),
		"detail": e.Detail, "remote": e.Remote, "request": e.Request, "status": e.Status,
	}).Scan(&id)
	if err != nil {
		return id, fmt.Errorf("audit log: %w", err)
	}
	return id, nil
}

const concludeAudit = `UPDATE tocsin.audit SET object = @object, detail = @detail, status = @status WHERE id = @id`

// Conclude writes down what became of what [Audit.Begin] announced as id, with what
// is known only now: its object and detail.
func (a *Audit) Conclude(ctx context.Context, id uuid.UUID, e Entry) error {
	_, err := a.pool.Exec(ctx, concludeAudit, pgx.NamedArgs{"id": id, "object": text.Clip(e.Object, 1000), "detail": e.Detail, "status": e.Status})
	if err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	status := 0
	if e.Status != nil {
		status = *e.Status
	}
	a.log.InfoContext(ctx, "audit", "id", id, "actor", e.Actor, "action", e.Action, "object", e.Object, "status", status, "remote", e.Remote, "request", e.Request)
	return nil
}

const forgetAudit = `DELETE FROM tocsin.audit WHERE id = @id`

// Forget takes back what [Audit.Begin] announced: nothing was changed.
func (a *Audit) Forget(ctx context.Context, id uuid.UUID) error {
	if _, err := a.pool.Exec(ctx, forgetAudit, pgx.NamedArgs{"id": id}); err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	return nil
}

// AuditQuery selects entries, newest first. The zero value selects all.
type AuditQuery struct {
	Actor  string // name or id of a token, or the part of Tocsin
	Action string // as it is, or the first half: "tokens" for all of "tokens.…"
	Object string // contains this
	Since  time.Time
	Until  time.Time
	Cursor string
	Limit  int
}

const listAudit = `
SELECT id, at, actor, token, owner, action, object, detail, remote, request, status FROM tocsin.audit
WHERE id < @before
  AND (@actor = '' OR actor = @actor OR token::text = @actor)
  AND (@action = '' OR action = @action OR starts_with(action, @action || '.'))
  AND (@object = '' OR strpos(object, @object) > 0)
  AND (@since::timestamptz IS NULL OR at >= @since) AND (@until::timestamptz IS NULL OR at < @until)
ORDER BY id DESC LIMIT @limit`

// List returns a page of entries and the cursor of the page after it, "" after the
// last.
func (a *Audit) List(ctx context.Context, q AuditQuery) (list []Entry, next string, err error) {
	before := uuid.Max
	if q.Cursor != "" {
		if before, err = uuid.Parse(q.Cursor); err != nil {
			return nil, "", problem.Refuse(problem.Field{Field: "/cursor", Message: "is not a cursor of this list"})
		}
	}
	args := pgx.NamedArgs{
		"before": before, "actor": q.Actor, "action": q.Action, "object": q.Object, "limit": q.Limit + 1, "since": nil, "until": nil,
	}
	if !q.Since.IsZero() {
		args["since"] = q.Since
	}
	if !q.Until.IsZero() {
		args["until"] = q.Until
	}
	rows, err := a.pool.Query(ctx, listAudit, args)
	if err != nil {
		return nil, "", fmt.Errorf("read the audit log: %w", err)
	}
	list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (e Entry, err error) {
		var detail []byte
		err = row.Scan(&e.ID, &e.At, &e.Actor, &e.Token, &e.Owner, &e.Action, &e.Object, &detail, &e.Remote, &e.Request, &e.Status)
		if err == nil && len(detail) > 0 {
			err = json.Unmarshal(detail, &e.Detail)
		}
		return e, err
	})
	if err != nil {
		return nil, "", fmt.Errorf("read the audit log: %w", err)
	}
	if len(list) > q.Limit {
		list = list[:q.Limit]
		next = list[q.Limit-1].ID.String()
	}
	return list, next, nil
}

// Bounds of one deletion of old entries: rows a statement, and statements a run.
const (
	trimRows = 10_000
	trimRuns = 100
)

const trimAudit = `
DELETE FROM tocsin.audit WHERE id IN (
  SELECT id FROM tocsin.audit WHERE at < clock_timestamp() - @retention::interval ORDER BY at LIMIT @rows)`

// Run deletes what is older than the retention, by the database's clock, at once
// and then hourly, until ctx ends. What it deleted is an entry itself.
func (a *Audit) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		if err := a.Trim(ctx); err != nil && ctx.Err() == nil {
			a.log.WarnContext(ctx, "old entries of the audit log could not be deleted", "reason", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Trim deletes what is older than the retention, a million entries at most.
func (a *Audit) Trim(ctx context.Context) error {
	total := int64(0)
	for range trimRuns {
		tag, err := a.pool.Exec(ctx, trimAudit, pgx.NamedArgs{"retention": a.retention, "rows": trimRows})
		if err != nil {
			return fmt.Errorf("audit log: %w", err)
		}
		if total += tag.RowsAffected(); tag.RowsAffected() < trimRows {
			break
		}
	}
	if total == 0 {
		return nil
	}
	e := Entry{Actor: Tocsin, Action: "audit.trim", Detail: map[string]any{"entries": total, "retention": a.retention.String()}}
	if _, err := a.Begin(ctx, e); err != nil {
		return err
	}
	a.log.InfoContext(ctx, "old entries of the audit log deleted", "entries", total, "retention", a.retention)
	return nil
}

// Tocsin is the actor of what the program does by itself.
const Tocsin = "tocsin"
