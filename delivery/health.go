package delivery

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/schemas"
)

const (
	openSQL = `
UPDATE tocsin.lane
SET breaker = 'open', opens = @opens, failing_since = coalesce(failing_since, clock_timestamp()), reason = @reason, version = @version,
    not_before = greatest(not_before, clock_timestamp() + @wait * INTERVAL '1 microsecond')
WHERE subscription_id = @id AND token = @token AND owner = @owner
RETURNING failing_since, clock_timestamp() - failing_since > @patience * INTERVAL '1 microsecond'`

	holdSQL = `
UPDATE tocsin.lane SET not_before = greatest(not_before, clock_timestamp() + @wait * INTERVAL '1 microsecond'), version = @version
WHERE subscription_id = @id AND token = @token AND owner = @owner
RETURNING subscription_id`

	unholdSQL = `
UPDATE tocsin.lane SET not_before = NULL
WHERE subscription_id = @id AND token = @token AND owner = @owner
RETURNING subscription_id`

	closeSQL = `
UPDATE tocsin.lane
SET breaker = 'closed', opens = 0, failing_since = NULL, reason = @reason, not_before = NULL
WHERE subscription_id = @id AND token = @token AND owner = @owner
RETURNING subscription_id`
)

// hold leaves the far side alone for as long as it asked, also when the lane
// goes to another replica or the process ends meanwhile. The lane is locked.
func (l *lane) hold(d time.Duration) {
	l.pauseFor(d)
	until := time.Now().Add(d)
	if until.Sub(l.noted) < time.Second {
		return
	}
	l.noted = until
	version := l.sub.Version
	l.record(func(ctx context.Context, tx pgx.Tx) error {
		_, err := l.exec(ctx, tx, holdSQL, pgx.NamedArgs{"wait": time.Until(until).Microseconds(), "version": version})
		return err
	}, nil)
}

// unhold ends what hold began. The lane is locked.
func (l *lane) unhold() {
	l.pause = time.Time{}
	if l.noted.IsZero() {
		return
	}
	l.noted = time.Time{}
	l.record(func(ctx context.Context, tx pgx.Tx) error {
		_, err := l.exec(ctx, tx, unholdSQL, pgx.NamedArgs{})
		return err
	}, nil)
}

// breakerChanged records that the lane's breaker opened or closed, and
// announces it. An open breaker ends the lane: its row says when the next
// replica may try. The lane is locked.
func (l *lane) breakerChanged(c BreakerConfig, last Outcome) {
	b := &l.breaker.row
	state := l.state(last)
	if b.state == BreakerClosed {
		b.opens = 0
		b.failingSince = nil
		l.more = true
		l.record(func(ctx context.Context, tx pgx.Tx) error {
			if ok, err := l.exec(ctx, tx, closeSQL, pgx.NamedArgs{"reason": ""}); !ok {
				return err
			}
			return l.q.o.Announcer.SubscriptionRecovered(ctx, tx, state)
		}, l.q.o.Announced)
		return
	}
	b.opens++
	l.end1(endOpen)
	state.Failures = b.opens
	args := pgx.NamedArgs{
		"id": l.id, "token": l.token, "owner": l.owner, "opens": b.opens, "reason": state.Reason, "version": l.sub.Version,
		"wait": openFor(c, b.opens).Microseconds(), "patience": c.DisableAfter.Microseconds(),
	}
	first := b.opens == 1
	l.record(func(ctx context.Context, tx pgx.Tx) error {
		var (
			since     time.Time
			exhausted bool
		)
		if err := tx.QueryRow(ctx, openSQL, args).Scan(&since, &exhausted); err != nil {
			return noRows(err)
		}
		state.Since = &since
		if exhausted && c.DisableAfter >= 0 {
			state.Reason = fmt.Sprintf("nothing but failures since %s; the last: %s", since.UTC().Format(time.RFC3339), state.Reason)
			if ok, err := l.exec(ctx, tx, closeSQL, pgx.NamedArgs{"reason": snippet(state.Reason)}); !ok {
				return err
			}
			return l.q.o.Announcer.SubscriptionDisabled(ctx, tx, state)
		}
		if first {
			return l.q.o.Announcer.SubscriptionFailing(ctx, tx, state)
		}
		return nil
	}, l.q.o.Announced)
}

// disable records and announces that the far side wants nothing any more. The
// lane is locked.
func (l *lane) disable(last Outcome) {
	state := l.state(last)
	l.end1(endIdle)
	l.record(func(ctx context.Context, tx pgx.Tx) error {
		if ok, err := l.exec(ctx, tx, closeSQL, pgx.NamedArgs{"reason": state.Reason}); !ok {
			return err
		}
		return l.q.o.Announcer.SubscriptionDisabled(ctx, tx, state)
	}, l.q.o.Announced)
}

func (l *lane) state(last Outcome) schemas.SubscriptionState {
	s := schemas.SubscriptionState{
		Subscription: l.id.String(), Name: l.sub.Name, Sink: l.sub.Sink, Protocol: l.sub.Protocol, Reason: string(last.Class),
		Since: l.breaker.row.failingSince,
	}
	if last.Err != nil {
		s.Reason = snippet(string(last.Class) + ": " + last.Err.Error())
	}
	return s
}

// end1 is end with the lane locked, leaving the pumping to the caller.
func (l *lane) end1(why endReason) {
	if l.ending == endNone {
		l.ending = why
	}
}

// exec runs a statement of the lane's row; false without an error says that
// the lane is another's.
func (l *lane) exec(ctx context.Context, tx pgx.Tx, sql string, args pgx.NamedArgs) (bool, error) {
	args["id"], args["token"], args["owner"] = l.id, l.token, l.owner
	var id uuid.UUID
	err := tx.QueryRow(ctx, sql, args).Scan(&id)
	return err == nil, noRows(err)
}

// record runs do in a transaction, again while the database is away; the lane
// does not end before. committed, if not nil, is called after it. The lane is
// locked.
func (l *lane) record(do func(context.Context, pgx.Tx) error, committed func()) {
	l.settling++
	l.q.workers.Go(func() {
		defer func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.settling--
			l.pumpLocked()
		}()
		for wait := 50 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
			err := l.inTx(do)
			if err == nil && committed != nil {
				committed()
			}
			if err == nil || l.ctx.Err() != nil {
				return
			}
			l.q.log.WarnContext(l.ctx, "health of a subscription not recorded", slog.String("subscription", l.id.String()), slog.Any("error", err))
			select {
			case <-l.ctx.Done():
				return
			case <-time.After(wait):
			}
		}
	})
}

func (l *lane) inTx(do func(context.Context, pgx.Tx) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.ctx), 10*time.Second)
	defer cancel()
	return pgx.BeginFunc(ctx, l.q.hot, func(tx pgx.Tx) error { return do(ctx, tx) })
}

// noRows makes pgx.ErrNoRows no error: the row is another's now.
func noRows(err error) error {
	if err == pgx.ErrNoRows {
		return nil
	}
	return err
}
