package delivery

import (
	"slices"
	"time"

	"github.com/google/uuid"
)

// row is a delivery as fetched from tocsin.queue.
type row struct {
	id       uuid.UUID
	event    uuid.UUID
	attempts int       // made so far
	due      time.Time // by this process's clock in ordered lanes, else by the database's
}

// place is a place in a subscription's queue; the zero value is before all.
type place struct {
	at time.Time
	id uuid.UUID
}

// window is the part of a subscription's queue that this process has read and
// not settled. It is a plain value: it knows no clock, no lock and no other
// part of the lane.
//
// A delivery is in buf, then in out, then gone: taken by the database, or given
// back, in which case it is read again.
type window struct {
	ordered bool // deliveries go out in the order of their events, due or not

	buf       []row                  // read, to be attempted in this order
	out       map[uuid.UUID]struct{} // under attempt, or on their way to be settled for good
	returning map[uuid.UUID]struct{} // on their way to be settled as pending again

	place   place     // how far the queue was read; ordered lanes read from the start each time
	tail    bool      // the last read found all there was behind place
	hinted  bool      // the queue may have changed since the last read began
	readAt  time.Time // when the last read was answered
	reading *reading  // the read under way, if any
}

// reading is a read under way.
type reading struct {
	limit   int
	stale   bool                   // the window was emptied meanwhile: the answer is out of date
	settled map[uuid.UUID]struct{} // settled meanwhile: the answer may still have them as due
}

func newWindow(ordered bool) window {
	return window{ordered: ordered, out: map[uuid.UUID]struct{}{}, returning: map[uuid.UUID]struct{}{}, tail: true}
}

const (
	// overlap is how far before the place it has come to a window reads again:
	// what was committed later than that after its moment is found by the next
	// look at the whole queue.
	overlap = time.Second
	// maxHeld bounds the deliveries of one lane that this process knows of, the
	// database being slow to take their outcomes.
	maxHeld = 4096
	// lookAgain is how often an ordered window whose first delivery waits reads
	// the queue again: that delivery may have been dropped or made due.
	lookAgain = time.Second
)

// held is how many deliveries this process knows of.
func (w *window) held() int { return len(w.buf) + len(w.out) + len(w.returning) }

// idle says that nothing is held and nothing is being read.
func (w *window) idle() bool { return w.held() == 0 && w.reading == nil }

// found says which delivery of the queue is due first.
func (w *window) found(first place) {
	w.hinted = true
	if first.at.Before(w.place.at.Add(-overlap)) && !w.holds(first.id) {
		w.place = place{} // it was committed late, or given back: from the start
	}
}

func (w *window) holds(id uuid.UUID) bool {
	return has(w.out, id) || has(w.returning, id) || slices.ContainsFunc(w.buf, func(r row) bool { return r.id == id })
}

func has(set map[uuid.UUID]struct{}, id uuid.UUID) bool {
	_, ok := set[id]
	return ok
}

// read begins a read of up to want deliveries if there may be more and the
// window runs low. An ordered window reads nothing while one of its deliveries
// returns to the queue: it is the next, or behind only those that are older.
func (w *window) read(now time.Time, want int) (after place, limit int, ok bool) {
	if w.reading != nil || !w.hinted && w.tail || w.held() >= maxHeld || w.ordered && len(w.returning) > 0 {
		return place{}, 0, false
	}
	if w.ordered && w.hinted && len(w.out) == 0 && len(w.buf) > 0 && w.buf[0].due.After(now) && now.Sub(w.readAt) > lookAgain {
		w.empty()
	}
	if len(w.buf) > want/2 {
		return place{}, 0, false
	}
	after, limit = w.place, want
	if w.tail || after == (place{}) {
		// Some of those already held are read again.
		limit += w.held()
		if after != (place{}) {
			after = place{at: after.at.Add(-overlap)}
		}
	}
	w.hinted = false
	w.reading = &reading{limit: limit}
	return after, limit, true
}

// answer takes what the read under way found. A read that failed is repeated
// on the next hint.
func (w *window) answer(now time.Time, rows []row, err error) {
	r := w.reading
	w.reading = nil
	if err != nil {
		w.tail = true
		return
	}
	w.readAt = now
	if r.stale {
		return
	}
	known := make(map[uuid.UUID]struct{}, len(w.buf))
	for _, b := range w.buf {
		known[b.id] = struct{}{}
	}
	for _, row := range rows {
		if !has(known, row.id) && !has(w.out, row.id) && !has(w.returning, row.id) && !has(r.settled, row.id) {
			w.buf = append(w.buf, row)
		}
	}
	w.tail = len(rows) < r.limit
	if len(rows) == 0 || w.ordered {
		return
	}
	if last := rows[len(rows)-1]; !w.tail || last.due.After(w.place.at) {
		w.place = place{last.due, last.id}
	}
}

// ready is how many deliveries, up to most, may be attempted now as one batch.
// If there is none because the first one is not due yet, at is when it is.
func (w *window) ready(now time.Time, most int) (n int, at time.Time) {
	n = min(len(w.buf), most)
	if !w.ordered {
		return n, time.Time{}
	}
	for i, r := range w.buf[:n] {
		if r.due.After(now) {
			if i == 0 {
				at = r.due
			}
			return i, at
		}
	}
	return n, time.Time{}
}

// take removes the first n deliveries from the buffer for an attempt.
func (w *window) take(n int) []row {
	rows := w.buf[:n:n]
	w.buf = w.buf[n:]
	for _, r := range rows {
		w.out[r.id] = struct{}{}
	}
	return rows
}

// attempted says what an attempt made of a delivery: it is on its way to be
// settled, for good or as pending again. After one that returns an ordered
// window forgets what it has read: that delivery comes first.
func (w *window) attempted(id uuid.UUID, returns bool) {
	if !returns {
		return
	}
	delete(w.out, id)
	w.returning[id] = struct{}{}
	if w.ordered {
		w.empty()
	}
}

// settled says that the database has taken the outcomes of these deliveries.
func (w *window) settled(ids []uuid.UUID) {
	for _, id := range ids {
		// An ordered window may read again, and its first delivery is here.
		w.hinted = w.hinted || w.ordered && has(w.returning, id)
		delete(w.returning, id)
		delete(w.out, id)
		if w.reading == nil {
			continue
		}
		if w.reading.settled == nil {
			w.reading.settled = map[uuid.UUID]struct{}{}
		}
		w.reading.settled[id] = struct{}{}
	}
}

// giveBack lets go of deliveries that were taken and stay in the queue as they
// are, and of all that waits behind them.
func (w *window) giveBack(rows ...row) {
	for _, r := range rows {
		delete(w.out, r.id)
		w.rewind(r)
	}
	w.empty()
}

// empty lets go of what waits in the buffer. It is read again.
func (w *window) empty() {
	for _, r := range w.buf {
		w.rewind(r)
	}
	w.buf, w.hinted = nil, true
	if w.reading != nil {
		w.reading.stale = true
	}
}

// rewind makes the next read find the row again.
func (w *window) rewind(r row) {
	if !r.due.After(w.place.at) {
		w.place = place{at: r.due.Add(-time.Microsecond)}
	}
}

// reorder changes the order in which deliveries go out.
func (w *window) reorder(ordered bool) {
	if ordered != w.ordered {
		w.empty()
		w.ordered, w.place = ordered, place{}
	}
}
