package delivery

import "github.com/google/uuid"

// message is something that a lane is told: these are all there are, beside the
// hint that its queue may hold more. A lane's state changes only in their
// methods and in its step, all of them called by its own goroutine.
type message interface{ tell(l *lane) }

// post hands a message to the lane's goroutine. It waits for that goroutine,
// which never waits for anybody, and returns false once the lane has ended.
func (l *lane) post(m message) bool {
	select {
	case l.inbox <- m:
		return true
	case <-l.ended:
		return false
	}
}

// hint says that something may have changed for the lane: its queue may hold
// more, or the replica may act again. It does not wait.
func (l *lane) hint() {
	select {
	case l.hints <- struct{}{}:
	default:
	}
}

// firstDue names the first delivery due in the lane's queue.
type firstDue place

func (m firstDue) tell(l *lane) { l.window.found(place(m)) }

// fetched is the answer to the lane's read of the queue.
type fetched struct {
	rows []row
	err  error
}

func (m fetched) tell(l *lane) { l.window.answer(l.host.now(), m.rows, m.err) }

// settled names deliveries whose outcomes the database has taken.
type settled []uuid.UUID

func (m settled) tell(l *lane) { l.window.settled(m) }

// attempted is what a worker has made of its batch.
type attempted struct {
	assignment
	worker  worker
	results []result
}

func (m attempted) tell(l *lane) {
	l.crew.dismiss()
	l.crew.rest(m.worker)
	l.conclude(m)
	m.target.release()
}

// noted says that the oldest note has been written to the lane's row, or never
// will be.
type noted struct{}

func (noted) tell(l *lane) {
	if l.notes = l.notes[1:]; len(l.notes) > 0 {
		l.writeNote()
	}
}

// reconfigured is the subscription as it is now.
type reconfigured Subscription

func (m reconfigured) tell(l *lane) { l.reconfigure(Subscription(m)) }

// end asks the lane to begin no more attempts and to end once those under way
// are settled.
type end endReason

func (m end) tell(l *lane) { l.finish(endReason(m)) }

// lost says that the lane is another replica's: attempts under way are given
// up.
type lost struct{}

func (lost) tell(l *lane) {
	l.ending = endLost
	l.stop()
}
