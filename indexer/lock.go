package indexer

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/quay/claircore/libindex"
)

// locker gives claircore locks that hold across replicas: advisory locks of
// PostgreSQL, each in a transaction on a connection of its own.
//
// claircore's own locker keeps all locks of a process on one pooled connection:
// losing it cancels everything at once, waiting for a lock polls it, and session
// locks rule out a pooler in transaction mode. Here a lost connection costs the
// one manifest its attempt, the server does the waiting, and no connection of
// the pool is held, so that locks can't starve the work they guard. The price
// is a connection for each manifest being indexed; the number of those is
// bounded by the number of jobs run at a time.
//
// Keys are hashed as claircore does it, since deleting a manifest tries the
// same lock.
type locker struct {
	pool *pgxpool.Pool
}

var _ libindex.LockSource = (*locker)(nil)

const (
	// A lock is idle for as long as an index takes; a server may be set to end
	// idle transactions sooner.
	stayIdleSQL = `SET LOCAL idle_in_transaction_session_timeout = 0`

	lockSQL    = `SELECT pg_advisory_xact_lock(@key)`
	tryLockSQL = `SELECT pg_try_advisory_xact_lock(@key)`
)

var errLockTaken = errors.New("another process is indexing it")

// Lock implements [libindex.LockSource]. It waits for the lock; if it can't be
// had, or is lost later, the returned context is cancelled and the attempt in
// it, if any, is told why.
func (l *locker) Lock(ctx context.Context, key string) (context.Context, context.CancelFunc) {
	return l.lock(ctx, key, func(ctx context.Context, tx pgx.Tx, id int64) error {
		_, err := tx.Exec(ctx, lockSQL, pgx.NamedArgs{"key": id})
		return err
	})
}

// TryLock implements [libindex.LockSource]: as Lock, without waiting.
func (l *locker) TryLock(ctx context.Context, key string) (context.Context, context.CancelFunc) {
	return l.lock(ctx, key, func(ctx context.Context, tx pgx.Tx, id int64) error {
		var ok bool
		if err := tx.QueryRow(ctx, tryLockSQL, pgx.NamedArgs{"key": id}).Scan(&ok); err != nil {
			return err
		}
		if !ok {
			return errLockTaken
		}
		return nil
	})
}

func (l *locker) lock(parent context.Context, key string, take func(context.Context, pgx.Tx, int64) error) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	fail := func(err error) (context.Context, context.CancelFunc) {
		if parent.Err() == nil {
			attemptFrom(parent).lose(fmt.Errorf("lock %s: %w", key, err))
		}
		cancel(err)
		return ctx, func() {}
	}
	conn, err := pgx.ConnectConfig(parent, l.pool.Config().ConnConfig)
	if err != nil {
		return fail(err)
	}
	tx, err := conn.Begin(parent)
	if err == nil {
		_, err = tx.Exec(parent, stayIdleSQL)
	}
	if err == nil {
		err = take(parent, tx, lockKey(key))
	}
	if err != nil {
		closeLock(parent, conn)
		return fail(err)
	}
	// The watcher reads from the connection until it is told to stop, and so
	// sees at once when it breaks.
	watch, stop := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		_, err := conn.WaitForNotification(watch)
		if err != nil && watch.Err() == nil {
			attemptFrom(parent).lose(fmt.Errorf("lock %s: lost: %w", key, err))
			cancel(err)
		}
	}()
	return ctx, func() {
		stop()
		<-watched
		unlock(parent, tx)
		closeLock(parent, conn)
		cancel(nil)
	}
}

// unlock ends the transaction, and the lock with it, before anybody is told that
// it is free: the server sees the end of a connection later. Should it fail,
// that end does it.
func unlock(ctx context.Context, tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_ = tx.Rollback(ctx)
}

func closeLock(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_ = conn.Close(ctx) // the server ends the session either way
}

// Close implements [libindex.LockSource]; there is nothing to close.
func (l *locker) Close(context.Context) error { return nil }

// lockKey is claircore's key for a name.
func lockKey(name string) int64 {
	h := fnv.New64a()
	h.Write([]byte(name))
	return int64(h.Sum64())
}
