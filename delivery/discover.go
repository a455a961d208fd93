package delivery

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

const (
	// Every subscription with something pending, with the moment its first
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
	expireSQL = `
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
func (w *Worker) discoveries(ctx, life context.Context) {
	var hints <-chan struct{}
	if w.o.Waker != nil {
		hints = w.o.Waker.OnWake(ctx, WakeSubject)
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
			w.hintAll()
		case <-w.kick:
		case <-timer.C:
		}
		if !w.replica.mayAct() {
			timer.Reset(w.o.Poll)
			continue
		}
		if wait := rest.Sub(w.now()); wait > 0 {
			timer.Reset(wait)
		} else {
			begun := w.now()
			next, err := w.discover(ctx, life)
			if err != nil && ctx.Err() == nil {
				w.log.WarnContext(ctx, "delivery queue not read", slog.Any("error", err))
				next = w.o.Poll
			}
			took := w.now().Sub(begun)
			w.metrics.discover.Observe(took.Seconds())
			rest = begun.Add(min(4*took, w.o.Poll))
			timer.Reset(min(max(next, 0), w.o.Poll))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(w.gather()):
		}
	}
}

// gather is how long hints are gathered: the longer the more lanes there are
// to read on.
func (w *Worker) gather() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return 4*time.Millisecond + time.Duration(len(w.lanes))*30*time.Microsecond
}

// hintAll makes every lane of this replica read on.
func (w *Worker) hintAll() {
	for _, l := range w.owned() {
		l.hint()
	}
}

// discover looks once: it wakes the lanes that have due work, takes some that
// nobody has, and returns how long until the next delivery becomes due.
func (w *Worker) discover(ctx, life context.Context) (next time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	all, err := w.lookUp(ctx)
	if err != nil {
		return 0, err
	}
	next = w.o.Poll
	now := w.now()
	if slices.ContainsFunc(all, func(d due) bool { return d.late }) && w.replica.steady() {
		if _, err := w.hot.Exec(ctx, expireSQL); err != nil {
			return 0, err
		}
	}
	self := w.replica.self()
	var (
		free         []uuid.UUID
		mine, others int
		ready        = map[*lane]place{}
	)
	w.mu.Lock()
	unseen := map[uuid.UUID]time.Time{}
	for _, d := range all {
		if d.in > 0 {
			next = min(next, d.in)
			continue
		}
		l := w.lanes[d.id]
		switch _, parked := w.parked[d.id]; {
		case l != nil:
			mine++
			ready[l] = d.first
		case parked:
		case d.owner != nil && *d.owner != self && !d.late:
			others++
		default:
			unseen[d.id] = now
			if since, ok := w.unseen[d.id]; ok {
				unseen[d.id] = since
			}
			free = append(free, d.id)
		}
	}
	w.unseen = unseen
	w.surplus = w.tooMany(slices.Collect(maps.Keys(ready)), mine+others+len(free))
	w.mu.Unlock()
	for l, first := range ready {
		l.post(firstDue(first))
	}
	busy := mine + others + len(free)
	if len(free) == 0 {
		return next, nil
	}
	left, err := w.claim(ctx, life, free, mine, busy)
	if left {
		next = min(next, leftToOthers)
	}
	return next, err
}

// tooMany are those of this replica's busy lanes that are to go to others, of
// so many busy ones in all: while it has half as many again as its share.
func (w *Worker) tooMany(mine []*lane, busy int) []*lane {
	share := w.share(busy)
	if len(mine) <= share+share/2+1 {
		return nil
	}
	return mine[:len(mine)-share]
}

// share is how many of so many busy lanes are this replica's to deliver.
func (w *Worker) share(busy int) int {
	replicas := int(max(w.replicas.Load(), 1))
	return (busy + replicas - 1) / replicas
}

func (w *Worker) lookUp(ctx context.Context) ([]due, error) {
	rows, err := w.hot.Query(ctx, discoverSQL)
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
	w.replicas.Store(max(replicas, 1))
	return all, err
}
