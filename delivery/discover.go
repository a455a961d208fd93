package delivery

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

const (
	// Every subscription that is owed something, with the moment its first
	// delivery is due: the index is skipped through, one probe a subscription,
	// whatever each has waiting.
	discoverSQL = `
WITH RECURSIVE waiting AS (
  (SELECT subscription_id, next_attempt_at, id FROM tocsin.queue ORDER BY subscription_id, next_attempt_at, id LIMIT 1)
  UNION ALL
  SELECT n.subscription_id, n.next_attempt_at, n.id
  FROM waiting w CROSS JOIN LATERAL (
    SELECT q.subscription_id, q.next_attempt_at, q.id FROM tocsin.queue q
    WHERE q.subscription_id > w.subscription_id
    ORDER BY q.subscription_id, q.next_attempt_at, q.id LIMIT 1) n
)
SELECT w.subscription_id, w.next_attempt_at, w.id,
  (extract(epoch FROM greatest(w.next_attempt_at, l.not_before) - clock_timestamp()) * 1000000)::bigint,
  r.id, coalesce(r.lease_until <= clock_timestamp(), false),
  (SELECT count(*) FROM tocsin.replica WHERE lease_until > clock_timestamp())
FROM waiting w
LEFT JOIN tocsin.lane l ON l.subscription_id = w.subscription_id
LEFT JOIN tocsin.replica r ON r.id = l.owner`

	// Ends replicas whose lease has run out, but for those that are settling
	// outcomes at this moment. A replica never comes back under the same id.
	burySQL = `
DELETE FROM tocsin.replica WHERE id IN (
  SELECT id FROM tocsin.replica WHERE lease_until <= clock_timestamp() FOR UPDATE SKIP LOCKED)`
)

// due is what discovery found out about one subscription.
type due struct {
	id    uuid.UUID
	first place         // of its first delivery
	in    time.Duration // until that is due
	owner *uuid.UUID    // the replica that has the lane, if any
	late  bool          // the owner's lease has run out
}

// discoveries looks for due work until ctx ends. A hint makes the lanes of
// this replica read on from where they were; the whole queue is looked at then
// too, when the earliest delivery known becomes due, and every poll interval,
// but for at most a quarter of the time.
func (q *Queue) discoveries(ctx, life context.Context) {
	var hints <-chan struct{}
	if q.o.Waker != nil {
		hints = q.o.Waker.OnWake(ctx, WakeSubject)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	var rest time.Time // no look at the whole queue before
	for {
		select {
		case <-ctx.Done():
			return
		case _, ok := <-hints:
			if !ok {
				hints = nil
				continue
			}
			q.nudge()
		case <-q.kick:
		case <-timer.C:
		}
		if !q.mayAct() {
			timer.Reset(q.o.Poll)
			continue
		}
		if wait := time.Until(rest); wait > 0 {
			timer.Reset(wait)
		} else {
			begun := time.Now()
			next, err := q.discover(ctx, life)
			if err != nil && ctx.Err() == nil {
				q.log.WarnContext(ctx, "delivery queue not read", slog.Any("error", err))
				next = q.o.Poll
			}
			took := time.Since(begun)
			q.metrics.discover.Observe(took.Seconds())
			rest = begun.Add(min(4*took, q.o.Poll))
			timer.Reset(min(max(next, 0), q.o.Poll))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(q.gather()):
		}
	}
}

// gather is how long hints are gathered: the longer the more lanes there are
// to read on.
func (q *Queue) gather() time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	return 4*time.Millisecond + time.Duration(len(q.lanes))*30*time.Microsecond
}

// nudge makes every lane of this replica read on.
func (q *Queue) nudge() {
	for _, l := range q.owned() {
		l.nudge()
	}
}

// discover looks once: it wakes the lanes that have due work, takes some that
// nobody has, and returns how long until the next delivery becomes due.
func (q *Queue) discover(ctx, life context.Context) (next time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	all, err := q.lookUp(ctx)
	if err != nil {
		return 0, err
	}
	next = q.o.Poll
	now := time.Now()
	if slices.ContainsFunc(all, func(d due) bool { return d.late }) && q.steady() {
		if _, err := q.hot.Exec(ctx, burySQL); err != nil {
			return 0, err
		}
	}
	self := q.self()
	var (
		free         []uuid.UUID
		mine, others int
		ready        = map[*lane]place{}
	)
	q.mu.Lock()
	unseen := map[uuid.UUID]time.Time{}
	for _, d := range all {
		if d.in > 0 {
			next = min(next, d.in)
			continue
		}
		l := q.lanes[d.id]
		switch _, parked := q.parked[d.id]; {
		case l != nil:
			mine++
			ready[l] = d.first
		case parked:
		case d.owner != nil && *d.owner != self && !d.late:
			others++
		default:
			unseen[d.id] = now
			if since, ok := q.unseen[d.id]; ok {
				unseen[d.id] = since
			}
			free = append(free, d.id)
		}
	}
	q.unseen = unseen
	q.mu.Unlock()
	for l, first := range ready {
		l.poke(first)
	}
	busy := mine + others + len(free)
	if share := q.share(busy); mine > share+share/2+1 {
		q.surplus.Store(int64(mine - share))
	}
	if len(free) == 0 {
		return next, nil
	}
	left, err := q.claim(ctx, life, free, mine, busy)
	if left {
		next = min(next, leftToOthers)
	}
	return next, err
}

// share is how many of so many busy lanes are this replica's to deliver.
func (q *Queue) share(busy int) int {
	replicas := int(max(q.replicas.Load(), 1))
	return (busy + replicas - 1) / replicas
}

func (q *Queue) lookUp(ctx context.Context) ([]due, error) {
	rows, err := q.hot.Query(ctx, discoverSQL)
	if err != nil {
		return nil, err
	}
	var (
		all      []due
		d        due
		us       int64
		replicas int64
	)
	_, err = pgx.ForEachRow(rows, []any{&d.id, &d.first.at, &d.first.id, &us, &d.owner, &d.late, &replicas}, func() error {
		d.in = time.Duration(us) * time.Microsecond
		all = append(all, d)
		return nil
	})
	q.replicas.Store(max(replicas, 1))
	return all, err
}
