package delivery

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/retry"
	"tocsin.dev/tocsin/schemas"
)

const (
	// One lane to a host at a time decides whether its failing is announced.
	hostLockSQL = `SELECT pg_advisory_xact_lock(hashtextextended('tocsin.delivery.host ' || @host::text, 0))`

	// Of the lanes to one host that fail, one is announced.
	announceSQL = `
UPDATE tocsin.lane SET announced = true
WHERE subscription_id = @id AND NOT EXISTS (SELECT FROM tocsin.lane WHERE host = @host AND breaker <> 'closed' AND announced)
RETURNING subscription_id`

	openSQL = `
UPDATE tocsin.lane
SET breaker = 'open', opens = @opens, host = @host, failing_since = coalesce(failing_since, clock_timestamp()), reason = @reason, version = @version,
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

	// The row as it was says whether the failing was announced.
	closeSQL = `
UPDATE tocsin.lane l
SET breaker = 'closed', opens = 0, failing_since = NULL, reason = @reason, not_before = NULL, announced = false
FROM (SELECT subscription_id, announced FROM tocsin.lane WHERE subscription_id = @id FOR UPDATE) was
WHERE l.subscription_id = was.subscription_id AND l.token = @token AND l.owner = @owner
RETURNING was.announced`
)

// note is a change of the lane's row in tocsin.lane, with what it announces, if
// anything.
type note func(context.Context, pgx.Tx) error

// note has a change of the lane's row written, after those before it. The lane
// does not end before it is.
func (l *lane) note(n note) {
	l.notes = append(l.notes, n)
	if len(l.notes) == 1 {
		l.writeNote()
	}
}

// writeNote writes the oldest note. It retries while the database is unavailable,
// until the lane is lost.
func (l *lane) writeNote() {
	n := l.notes[0]
	l.host.start(func() {
		// The host logs each failure.
		_ = retry.Pauses{First: 50 * time.Millisecond, Most: 5 * time.Second}.Do(l.ctx, func() error { return l.host.write(l.ctx, l.id, n) })
		l.post(noted{})
	})
}

// leaveAlone makes no attempt until t, also if the lane goes to another replica or
// the process ends before. A pause of less than a second is not stored.
func (l *lane) leaveAlone(t time.Time) {
	l.gate.hold(t)
	if t.Sub(l.hold) < time.Second {
		return
	}
	l.hold = t
	version := l.sub.Version
	l.note(func(ctx context.Context, tx pgx.Tx) error {
		args := pgx.NamedArgs{"wait": t.Sub(l.host.now()).Microseconds(), "version": version}
		_, err := l.exec(ctx, tx, holdSQL, args)
		return err
	})
}

// noHold removes from the row what leaveAlone stored.
func (l *lane) noHold() {
	if l.hold.IsZero() {
		return
	}
	l.hold = time.Time{}
	l.note(func(ctx context.Context, tx pgx.Tx) error {
		_, err := l.exec(ctx, tx, unholdSQL, pgx.NamedArgs{})
		return err
	})
}

// recovered records and announces that the lane's breaker closed.
func (l *lane) recovered(last Outcome) {
	state := l.state(last)
	l.gate.breaker.row = breakerRow{state: BreakerClosed}
	l.window.hinted = true // no longer one at a time
	l.note(func(ctx context.Context, tx pgx.Tx) error {
		announced, ok, err := l.close(ctx, tx, "")
		if !ok || !announced {
			return err
		}
		return l.host.announcer().SubscriptionRecovered(ctx, tx, state)
	})
}

// opened records that the lane's breaker opened, or that the subscription is
// disabled after too long. It is announced unless that of another lane to the
// same host is: a host that is away is one event, however many subscriptions
// go to it. The lane ends: its row says when a replica may try again.
func (l *lane) opened(c BreakerConfig, last Outcome) {
	l.finish(endOpen)
	b := &l.gate.breaker.row
	b.opens++
	state := l.state(last)
	state.Failures = b.opens
	args := pgx.NamedArgs{
		"host": hostOf(l.sub.Sink), "id": l.id, "token": l.token, "owner": l.owner, "opens": b.opens, "reason": state.Reason, "version": l.sub.Version,
		"wait": openFor(c, b.opens).Microseconds(), "patience": c.DisableAfter.Microseconds(),
	}
	l.note(func(ctx context.Context, tx pgx.Tx) error {
		var (
			since     time.Time
			exhausted bool
		)
		if _, err := tx.Exec(ctx, hostLockSQL, args); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, openSQL, args).Scan(&since, &exhausted); err != nil {
			return noRows(err)
		}
		state := state // this may run more than once
		state.Since = &since
		if exhausted && c.DisableAfter >= 0 {
			state.Reason = fmt.Sprintf("nothing but failures since %s; the last: %s", since.UTC().Format(time.RFC3339), state.Reason)
			if _, ok, err := l.close(ctx, tx, snippet(state.Reason)); !ok {
				return err
			}
			return l.host.announcer().SubscriptionDisabled(ctx, tx, state)
		}
		if ok, err := l.exec(ctx, tx, announceSQL, pgx.NamedArgs{"host": args["host"]}); !ok {
			return err
		}
		return l.host.announcer().SubscriptionFailing(ctx, tx, state)
	})
}

// disable records and announces that the far side wants nothing any more.
func (l *lane) disable(last Outcome) {
	l.finish(endInactive)
	state := l.state(last)
	l.note(func(ctx context.Context, tx pgx.Tx) error {
		if _, ok, err := l.close(ctx, tx, state.Reason); !ok {
			return err
		}
		return l.host.announcer().SubscriptionDisabled(ctx, tx, state)
	})
}

// state is the subscription's state as announced after an outcome.
func (l *lane) state(last Outcome) schemas.SubscriptionState {
	s := schemas.SubscriptionState{
		Subscription: l.id.String(), Name: l.sub.Name, Sink: l.sub.Sink, Protocol: l.sub.Protocol, Reason: string(last.Class),
		Since: l.gate.breaker.row.failingSince,
	}
	if last.Err != nil {
		s.Reason = snippet(string(last.Class) + ": " + last.Err.Error())
	}
	return s
}

// exec runs a statement of the lane's row; false without an error says that
// the lane is another's.
func (l *lane) exec(ctx context.Context, tx pgx.Tx, sql string, args pgx.NamedArgs) (bool, error) {
	args["id"], args["token"], args["owner"] = l.id, l.token, l.owner
	var id uuid.UUID
	err := tx.QueryRow(ctx, sql, args).Scan(&id)
	return err == nil, noRows(err)
}

// close records that the breaker is closed. announced says that its failing
// was announced; without ok the lane is another's.
func (l *lane) close(ctx context.Context, tx pgx.Tx, reason string) (announced, ok bool, err error) {
	args := pgx.NamedArgs{"reason": reason, "id": l.id, "token": l.token, "owner": l.owner}
	err = tx.QueryRow(ctx, closeSQL, args).Scan(&announced)
	return announced, err == nil, noRows(err)
}

// hostOf is whom a sink is at: host and port, or all of it if it is no URL.
func hostOf(sink string) string {
	u, err := url.Parse(sink)
	if err != nil || u.Host == "" {
		return sink
	}
	return strings.ToLower(u.Host)
}

// noRows makes pgx.ErrNoRows no error: the row is another's now.
func noRows(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	return err
}
