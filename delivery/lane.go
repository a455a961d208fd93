package delivery

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/time/rate"
)

// row is a delivery that is due, as fetched from tocsin.queue.
type row struct {
	id       uuid.UUID
	event    uuid.UUID
	attempts int       // made so far
	due      time.Time // by this process's clock in ordered lanes, else by the database's
}

// endReason is why a lane ends.
type endReason int

const (
	endNone endReason = iota
	endIdle
	endShutdown
	endParked
	endDeleted
	endOpen // the breaker opened
	endLost // another replica has it
)

// lane delivers to one subscription while this replica owns it. Nothing it
// does waits for another lane: it has its own buffer of due deliveries, its
// own workers up to the subscription's concurrency, its own limiter and its
// own breaker. It has no goroutine of its own; every event pumps it.
type lane struct {
	q     *Queue
	id    uuid.UUID
	owner uuid.UUID // the replica's id when it took the lane
	token int64
	ctx   context.Context // ends when attempts must be given up
	stop  context.CancelFunc
	ended chan struct{}

	mu       sync.Mutex
	sub      Subscription
	target   *openTarget
	breaker  *breaker
	limiter  *rate.Limiter
	buf      []row
	held     map[uuid.UUID]struct{} // fetched and not settled
	late     map[uuid.UUID]struct{} // settled while a fetch was under way, which may still see them as due
	fetching bool
	stale    bool      // what the fetch under way finds is out of date
	blocked  bool      // an ordered lane's head has failed and is not settled
	more     bool      // there may be due deliveries beyond buf
	running  int       // workers
	first    bool      // the worker that every lane may have is among them
	settling int       // deliveries on their way to be settled
	place    place     // how far the queue was read
	tail     bool      // that was all there was
	looked   time.Time // when an ordered lane last looked whether its head still waits
	pause    time.Time
	noted    time.Time // until when the lane's row says to leave the far side alone
	timer    *time.Timer
	idle     time.Time // since when there is nothing to do; zero while there is
	ending   endReason
	finished bool
}

func newLane(q *Queue, life context.Context, sub Subscription, owner uuid.UUID, token int64, b breakerRow) *lane {
	l := &lane{q: q, id: sub.ID, owner: owner, token: token, sub: sub, held: map[uuid.UUID]struct{}{}, ended: make(chan struct{}), idle: time.Now()}
	l.ctx, l.stop = context.WithCancel(life)
	l.breaker = newBreaker(sub.Config.Breaker, b)
	l.limiter = limiter(sub.Config)
	l.timer = time.AfterFunc(time.Hour, l.pump)
	l.timer.Stop()
	return l
}

func limiter(c Config) *rate.Limiter {
	if c.Rate <= 0 {
		return rate.NewLimiter(rate.Inf, 0)
	}
	return rate.NewLimiter(rate.Limit(c.Rate), max(c.Burst, 1))
}

// nudge says that the queue may hold due deliveries for the lane.
func (l *lane) nudge() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.more = true
	l.pumpLocked()
}

// poke says which delivery is the first one due in the lane's queue.
func (l *lane) poke(first place) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.more = true
	if _, held := l.held[first.id]; !held && first.at.Before(l.place.at.Add(-overlap)) {
		l.place = place{} // it was committed late, or let go: from the start
	}
	l.pumpLocked()
}

// pump does what can be done now: fetch, start workers, end.
func (l *lane) pump() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pumpLocked()
}

func (l *lane) pumpLocked() {
	if l.finished {
		return
	}
	if l.ending != endNone {
		l.buf = nil
		if l.running == 0 && l.settling == 0 && !l.fetching {
			l.finished = true
			l.timer.Stop()
			l.q.workers.Go(l.finish)
		}
		return
	}
	l.fetchLocked()
	for l.running < l.sub.Config.Concurrency && len(l.buf) > 0 {
		if l.first && !l.q.extra.take() {
			break // the lane goes on with what it has
		}
		batch, done := l.take()
		if batch == nil {
			if l.first {
				l.q.extra.give()
			}
			break
		}
		extra := l.first
		l.first = true
		l.running++
		target := l.acquire()
		l.q.workers.Go(func() { l.work(target, batch, done, extra) })
	}
	if l.running > 0 || len(l.buf) > 0 || l.fetching || l.settling > 0 {
		l.idle = time.Time{}
	} else if l.idle.IsZero() {
		l.idle = time.Now()
	}
}

// fetchLocked asks for more deliveries when the buffer runs low.
func (l *lane) fetchLocked() {
	now := time.Now()
	if !l.more || l.fetching || l.blocked || l.pause.After(now) || len(l.held) >= maxHeld || !l.q.mayAct() {
		return
	}
	if l.sub.Config.Ordered && l.running == 0 && len(l.buf) > 0 && l.buf[0].due.After(now) && now.Sub(l.looked) > time.Second {
		// The head waits, and may have been dropped or made due meanwhile.
		l.looked = now
		l.discard()
	}
	want := l.buffer()
	if len(l.buf) > want/2 {
		return
	}
	f := fetch{lane: l, id: l.id, limit: want, after: l.place, ordered: l.sub.Config.Ordered}
	if l.tail || l.place == (place{}) {
		// Some of the ones already held come again.
		f.limit += len(l.held)
		if l.place != (place{}) {
			f.after = place{at: l.place.at.Add(-overlap)}
		}
	}
	l.fetching, l.more = true, false
	l.q.fetches.ask(f)
}

// overlap is how far before the place it has come to a lane reads again: what
// was committed later than that after its moment is found by the next look at
// the whole queue.
const overlap = time.Second

// discard empties the buffer; what was in it is still in the queue.
func (l *lane) discard() {
	for _, r := range l.buf {
		l.putBack(r)
	}
	l.buf, l.more, l.stale = nil, true, l.fetching
}

// putBack lets go of a delivery that stays in the queue as it is.
func (l *lane) putBack(r row) {
	delete(l.held, r.id)
	if !r.due.After(l.place.at) {
		l.place = place{at: r.due.Add(-time.Microsecond)}
	}
}

// maxHeld bounds the deliveries of one lane that this process knows of, the
// database being slow to take their outcomes.
const maxHeld = 4096

// buffer is how many deliveries a lane fetches ahead.
func (l *lane) buffer() int {
	c := l.sub.Config
	if l.breaker.row.state != BreakerClosed {
		return 1
	}
	n := 4 * c.Concurrency
	if c.Mode == Batched {
		n = 2 * c.Concurrency * c.BatchSize
	}
	n = min(max(n, 32), 512)
	if limit := l.limiter.Limit(); limit != rate.Inf {
		// What waits here cannot be dropped any more: two seconds' worth.
		per := 1
		if c.Mode == Batched {
			per = c.BatchSize
		}
		n = min(n, per*max(int(2*limit), l.limiter.Burst()))
	}
	return n
}

// take removes the next batch to attempt from the buffer, or returns nil: if
// only time stands in the way, the timer pumps again.
func (l *lane) take() ([]row, func(error)) {
	if len(l.buf) == 0 || l.ending != endNone || !l.q.mayAct() {
		return nil, nil
	}
	now := time.Now()
	if wait := l.pause.Sub(now); wait > 0 {
		l.timer.Reset(wait)
		return nil, nil
	}
	c := l.sub.Config
	if c.Ordered {
		if wait := l.buf[0].due.Sub(now); wait > 0 {
			l.timer.Reset(wait)
			return nil, nil
		}
	}
	n := 1
	if c.Mode == Batched && l.breaker.row.state == BreakerClosed {
		n = min(len(l.buf), c.BatchSize)
		for i := 1; c.Ordered && i < n; i++ {
			if l.buf[i].due.After(now) {
				n = i
			}
		}
	}
	if l.limiter.Limit() != rate.Inf {
		r := l.limiter.ReserveN(now, 1)
		if wait := r.DelayFrom(now); wait > 0 {
			r.CancelAt(now)
			l.timer.Reset(wait)
			return nil, nil
		}
	}
	done, ok := l.breaker.allow()
	if !ok {
		return nil, nil
	}
	batch := l.buf[:n:n]
	l.buf = l.buf[n:]
	return batch, done
}

// fetched takes what a fetch found. asked is how many it asked for.
func (l *lane) fetched(rows []row, asked int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fetching = false
	late := l.late
	l.late = nil
	switch {
	case err != nil:
		// The next look at the queue asks again.
	case l.stale:
		l.more = true
	default:
		for _, r := range rows {
			if _, ok := l.held[r.id]; ok {
				continue
			}
			if _, ok := late[r.id]; ok {
				continue
			}
			l.held[r.id] = struct{}{}
			l.buf = append(l.buf, r)
		}
		l.tail = len(rows) < asked
		l.more = l.more || !l.tail
		if len(rows) > 0 && !l.sub.Config.Ordered {
			last := rows[len(rows)-1]
			if !l.tail || last.due.After(l.place.at) {
				l.place = place{last.due, last.id}
			}
		}
	}
	l.stale = false
	l.pumpLocked()
}

// settled says that the database has taken these outcomes.
func (l *lane) settled(ids []uuid.UUID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settling -= len(ids)
	for _, id := range ids {
		delete(l.held, id)
		if l.fetching {
			if l.late == nil {
				l.late = map[uuid.UUID]struct{}{}
			}
			l.late[id] = struct{}{}
		}
	}
	if l.blocked && l.settling == 0 {
		l.blocked, l.more = false, true
	}
	l.pumpLocked()
}

// reconfigure applies a new version of the subscription to the attempts that
// begin from now on.
func (l *lane) reconfigure(sub Subscription) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if sub.Version == l.sub.Version || l.finished {
		return
	}
	old := l.sub
	l.sub = sub
	l.limiter = limiter(sub.Config)
	if sub.Config.Breaker != old.Config.Breaker {
		l.breaker = newBreaker(sub.Config.Breaker, l.breaker.row)
	}
	l.unhold() // it was asked for by the old one
	if sub.Config.Ordered != old.Config.Ordered {
		l.discard() // it is in another order
	}
	l.dropTarget()
	l.pumpLocked()
}

// end stops new attempts; the lane is given back once those under way are
// settled.
func (l *lane) end(why endReason) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ending == endNone {
		l.ending = why
	}
	l.pumpLocked()
}

// lose ends a lane that another replica has taken: attempts under way are
// given up.
func (l *lane) lose() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ending = endLost
	l.stop()
	l.pumpLocked()
}

// abort gives up the attempts under way.
func (l *lane) abort() { l.stop() }

// idleFor is for how long the lane has had nothing to do; 0 while it has, or
// may not do it yet.
func (l *lane) idleFor() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.idle.IsZero() || l.pause.After(time.Now()) {
		return 0
	}
	return max(time.Since(l.idle), 1)
}

// finish gives the lane back.
func (l *lane) finish() {
	defer close(l.ended)
	l.mu.Lock()
	why := l.ending
	l.dropTarget()
	l.mu.Unlock()
	ctx := context.WithoutCancel(l.ctx)
	l.stop()
	switch why {
	case endLost, endShutdown:
		// Another's, or given back with all others.
	case endDeleted:
		l.q.dropLane(ctx, l.id, l.owner, l.token)
	default:
		l.q.release(ctx, l.id, l.owner, l.token)
	}
	l.q.forget(l)
	l.q.wake()
}
