package delivery

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// endReason is why a lane ends.
type endReason int

const (
	endNone     endReason = iota
	endIdle               // nothing to do, or more lanes than this replica's share
	endShutdown           // the process is ending
	endInactive           // the subscription is paused or disabled
	endDeleted            // the subscription is gone
	endOpen               // the breaker opened
	endLost               // another replica has it
)

// idleAfter is how long a lane without work is kept, with its connections.
const idleAfter = time.Minute

// host is what a lane asks of the worker that runs it. No method but write
// waits for the database or for a lane.
type host interface {
	// now is the time by which a lane decides.
	now() time.Time
	// mayAct says whether the replica's lease holds. When it does again, the
	// lane is given a hint.
	mayAct() bool
	// read asks for due deliveries; [fetched] is the answer.
	read(fetch)
	// settle hands over outcomes; [settled] follows once they are written, and
	// [lost] before it if they were refused.
	settle([]settlement)
	// attempt makes one attempt at a batch. It is called by a worker.
	attempt(ctx context.Context, target *openTarget, batch []row) []result
	// write runs a note in a transaction. It is called by a worker.
	write(ctx context.Context, subscription uuid.UUID, n note) error
	// announcer announces within a note's transaction.
	announcer() Announcer
	// close closes a target. It is called by a worker.
	close(context.Context, Target)
	// start runs a function that the end of the process waits for.
	start(func())
	// give takes the lane back when it has ended.
	give(l *lane, why endReason)
}

// lane delivers to one subscription while this replica owns it. Nothing it does
// waits for another lane. One goroutine, [lane.run], owns everything below ended;
// the rest of the process tells it things (messages.go).
type lane struct {
	host  host
	id    uuid.UUID
	owner uuid.UUID // the replica's id when it took the lane
	token int64
	life  context.Context // the process's
	ctx   context.Context // ends when attempts must be given up
	stop  context.CancelFunc
	inbox chan message
	hints chan struct{}
	ended chan struct{} // closed when run has returned
	told  int64         // the version of the subscription that the lane was told last; the refreshing goroutine's

	sub    Subscription
	target *openTarget
	window window
	gate   gate
	crew   crew
	notes  []note    // changes of the lane's row that are not written yet, the oldest first
	hold   time.Time // until when the lane's row says to leave the far side alone
	busy   time.Time // when there was last something to do
	ending endReason
}

// newLane makes a lane for a subscription that the replica has just claimed.
func newLane(h host, life context.Context, sub Subscription, owner uuid.UUID, token int64, b breakerRow, extra *budget) *lane {
	l := &lane{
		host: h, id: sub.ID, owner: owner, token: token, life: life,
		inbox: make(chan message, 16), hints: make(chan struct{}, 1), ended: make(chan struct{}),
		told: sub.Version, sub: sub, window: newWindow(sub.Config.Ordered), gate: newGate(sub.Config, b), crew: crew{budget: extra}, busy: h.now(),
	}
	l.ctx, l.stop = context.WithCancel(life)
	l.hint()
	return l
}

// run is the lane's goroutine. It returns when the lane has ended and has been
// given back, or when life ends.
func (l *lane) run() {
	defer close(l.ended)
	defer l.stop()
	defer l.crew.leave()
	timer := time.NewTimer(idleAfter)
	defer timer.Stop()
	alarm := l.host.now().Add(idleAfter)
	for {
		next, over := l.step()
		if over {
			l.drop()
			l.host.give(l, l.ending)
			return
		}
		if alarm.IsZero() || next.Before(alarm) {
			alarm = next
			timer.Reset(max(alarm.Sub(l.host.now()), 0))
		}
		select {
		case m := <-l.inbox:
			m.tell(l)
		case <-l.hints:
			l.window.hinted = true
		case <-timer.C:
			alarm = time.Time{}
		case <-l.life.Done():
			l.drop()
			return
		}
		for range len(l.inbox) {
			(<-l.inbox).tell(l)
		}
	}
}

// step does all that can be done now. next is when there may be more to do,
// if nothing is heard before; over says that the lane has ended.
func (l *lane) step() (next time.Time, over bool) {
	now := l.host.now()
	next = now.Add(idleAfter)
	if l.ending == endNone {
		next = l.begin(now)
		l.read(now)
	}
	if l.ending != endNone {
		l.window.empty()
		return next, l.crew.busy == 0 && l.window.idle() && len(l.notes) == 0
	}
	idle := l.crew.busy == 0 && l.window.idle()
	if idle {
		l.crew.leave()
	}
	if !idle || l.gate.held(now) {
		l.busy = now
	} else if over := l.busy.Add(idleAfter); !over.After(now) {
		l.finish(endIdle)
		return next, len(l.notes) == 0
	} else if over.Before(next) {
		next = over
	}
	return next, false
}

// begin begins attempts and returns when to look again.
func (l *lane) begin(now time.Time) (next time.Time) {
	next = now.Add(idleAfter)
	if l.gate.held(now) {
		// What is due after the pause is read then.
		l.window.empty()
		return l.gate.until
	}
	for l.host.mayAct() {
		most := 1
		if l.sub.Config.Mode == Batched && l.gate.closed() {
			most = l.sub.Config.BatchSize
		}
		n, at := l.window.ready(now, most)
		if n == 0 || !l.crew.hire(l.sub.Config.Concurrency) {
			return sooner(next, at)
		}
		verdict, at := l.gate.enter(now)
		if verdict == nil {
			l.crew.dismiss()
			return sooner(next, at)
		}
		if l.target == nil {
			l.target = l.newTarget()
		}
		w, fresh := l.crew.next()
		w <- assignment{l.target.use(), verdict, l.window.take(n)}
		if fresh {
			l.host.start(func() { l.work(w) })
		}
	}
	return next
}

// work makes attempts until there are no more for it.
func (l *lane) work(w worker) {
	for a := range w {
		if !l.post(attempted{a, w, l.host.attempt(l.ctx, a.target, a.batch)}) {
			a.target.release()
			return
		}
	}
}

// sooner is the earlier of two times, where zero is never.
func sooner(a, b time.Time) time.Time {
	if b.IsZero() || a.Before(b) {
		return a
	}
	return b
}

// read asks for more deliveries when the window runs low.
func (l *lane) read(now time.Time) {
	if l.gate.held(now) || !l.host.mayAct() {
		return
	}
	if after, limit, ok := l.window.read(now, l.wanted()); ok {
		l.host.read(fetch{lane: l, id: l.id, limit: limit, after: after, ordered: l.sub.Config.Ordered})
	}
}

// wanted is how many deliveries the lane reads ahead.
func (l *lane) wanted() int {
	c := l.sub.Config
	if !l.gate.closed() {
		return 1
	}
	per := 1
	n := 4 * c.Concurrency
	if c.Mode == Batched {
		per = c.BatchSize
		n = 2 * c.Concurrency * per
	}
	return min(max(n, 32), 512, per*l.gate.ahead())
}

// reconfigure applies a new version of the subscription to the attempts that
// begin from now on.
func (l *lane) reconfigure(sub Subscription) {
	if sub.Version == l.sub.Version {
		return
	}
	old := l.sub
	l.sub = sub
	l.gate.reconfigure(old.Config, sub.Config)
	l.window.reorder(sub.Config.Ordered)
	l.window.hinted = true
	l.noHold()
	l.drop()
}

// finish stops new attempts.
func (l *lane) finish(why endReason) {
	if l.ending == endNone {
		l.ending = why
	}
}

// newTarget is a target for the subscription as it is now.
func (l *lane) newTarget() *openTarget {
	return newTarget(l.sub, func(t Target) {
		l.host.start(func() { l.host.close(context.WithoutCancel(l.ctx), t) })
	})
}

// drop makes the next attempt open a new target.
func (l *lane) drop() {
	if l.target != nil {
		l.target.release()
		l.target = nil
	}
}
