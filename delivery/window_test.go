package delivery

import (
	"bytes"
	"cmp"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// table is tocsin.queue for one subscription, as a list.
type table struct {
	rows    []row
	created int
}

// add commits a delivery that is due at the given time; earlier makes it an
// event older than all others.
func (q *table) add(due time.Time, earlier bool) row {
	q.created++
	n := q.created
	r := row{id: uuid.UUID{14: byte(n >> 8), 15: byte(n)}, due: due}
	r.event = uuid.UUID{0: 1, 14: byte(n >> 8), 15: byte(n)}
	if earlier {
		r.event[0] = 0
	}
	q.rows = append(q.rows, r)
	return r
}

// read is what fetchSQL and fetchOrderedSQL find.
func (q *table) read(now time.Time, ordered bool, after place, limit int) []row {
	var found []row
	for _, r := range q.rows {
		at := cmp.Or(r.due.Compare(after.at), bytes.Compare(r.id[:], after.id[:]))
		if ordered || !r.due.After(now) && at > 0 {
			found = append(found, r)
		}
	}
	slices.SortFunc(found, func(a, b row) int {
		if ordered {
			return bytes.Compare(a.event[:], b.event[:])
		}
		return cmp.Or(a.due.Compare(b.due), bytes.Compare(a.id[:], b.id[:]))
	})
	return found[:min(limit, len(found))]
}

// first is the delivery that discovery names, if one is due.
func (q *table) first(now time.Time) (place, bool) {
	rows := q.read(now, false, place{}, 1)
	if len(rows) == 0 {
		return place{}, false
	}
	return place{rows[0].due, rows[0].id}, true
}

func (q *table) settle(id uuid.UUID, due time.Time, gone bool) {
	i := slices.IndexFunc(q.rows, func(r row) bool { return r.id == id })
	switch {
	case i < 0:
	case gone:
		q.rows = slices.Delete(q.rows, i, i+1)
	default:
		q.rows[i].due = due
		q.rows[i].attempts++
	}
}

// windowModel plays a window against a table, in any order of what can happen.
type windowModel struct {
	t       *rapid.T
	w       window
	q       table
	now     time.Time
	taken   []row // under attempt
	outcome []row // attempted, not settled; returns if due is set
	answer  []row // of the read under way
	gone    []row // settled for good, in the order of their attempts
}

func (m *windowModel) step() {
	switch rapid.IntRange(0, 9).Draw(m.t, "what") {
	case 0:
		m.q.add(m.now.Add(time.Duration(rapid.IntRange(-3, 2).Draw(m.t, "due"))*time.Second), false)
	case 1:
		m.now = m.now.Add(time.Duration(rapid.IntRange(1, 3000).Draw(m.t, "ms")) * time.Millisecond)
	case 2:
		m.w.hinted = true
	case 3:
		m.discover()
	case 4:
		m.begin(rapid.IntRange(1, 8).Draw(m.t, "want"))
	case 5:
		m.end(rapid.Bool().Draw(m.t, "fails"))
	case 6:
		m.take(rapid.IntRange(1, 3).Draw(m.t, "most"))
	case 7:
		m.attempted(rapid.IntRange(0, 2).Draw(m.t, "outcome"))
	case 8:
		m.settled()
	case 9:
		// Someone drops or hastens a delivery.
		if len(m.q.rows) > 0 {
			r := rapid.SampledFrom(m.q.rows).Draw(m.t, "row")
			m.q.settle(r.id, m.now, rapid.Bool().Draw(m.t, "drop"))
		}
	}
	m.check()
}

func (m *windowModel) discover() {
	if first, ok := m.q.first(m.now); ok {
		m.w.found(first)
	}
}

func (m *windowModel) begin(want int) {
	if after, limit, ok := m.w.read(m.now, want); ok {
		// The database reads now and answers later.
		m.answer = m.q.read(m.now, m.w.ordered, after, limit)
	}
}

func (m *windowModel) end(fails bool) {
	if m.w.reading == nil {
		return
	}
	if fails {
		m.w.answer(m.now, nil, errors.New("the database is away"))
		return
	}
	m.w.answer(m.now, m.answer, nil)
}

func (m *windowModel) take(most int) {
	n, at := m.w.ready(m.now, most)
	if n == 0 {
		if m.w.ordered && len(m.w.buf) > 0 && !at.After(m.now) {
			m.t.Fatalf("nothing is ready and nobody says when, with %d read", len(m.w.buf))
		}
		return
	}
	if m.w.ordered && len(m.taken) > 0 {
		return // one attempt at a time
	}
	for _, r := range m.w.take(n) {
		if m.w.ordered && r.due.After(m.now) {
			m.t.Fatalf("taken %v before it is due", r.due.Sub(m.now))
		}
		m.taken = append(m.taken, r)
	}
}

// attempted ends an attempt: delivered, to be tried again, or given back.
func (m *windowModel) attempted(outcome int) {
	if len(m.taken) == 0 {
		return
	}
	n := len(m.taken) // an ordered lane's is one batch
	if !m.w.ordered {
		n = 1
	}
	batch := m.taken[:n]
	m.taken = m.taken[n:]
	if outcome == 2 {
		m.w.giveBack(batch...)
		return
	}
	for _, r := range batch {
		m.w.attempted(r.id, outcome == 1)
		r.due = time.Time{}
		if outcome == 1 {
			r.due = m.now.Add(time.Second)
		}
		m.outcome = append(m.outcome, r)
	}
}

func (m *windowModel) settled() {
	if len(m.outcome) == 0 {
		return
	}
	r := m.outcome[0]
	m.outcome = m.outcome[1:]
	m.q.settle(r.id, r.due, r.due.IsZero())
	if r.due.IsZero() {
		m.gone = append(m.gone, r)
	}
	m.w.settled([]uuid.UUID{r.id})
}

// check holds the window to what it is for.
func (m *windowModel) check() {
	seen := map[uuid.UUID]bool{}
	for _, r := range m.w.buf {
		if seen[r.id] || has(m.w.out, r.id) || has(m.w.returning, r.id) {
			m.t.Fatalf("delivery %s is held twice", r.id)
		}
		seen[r.id] = true
	}
	for id := range m.w.returning {
		if has(m.w.out, id) {
			m.t.Fatalf("delivery %s is held twice", id)
		}
	}
	if got, want := len(m.w.out)+len(m.w.returning), len(m.taken)+len(m.outcome); got != want {
		m.t.Fatalf("%d are out, want %d", got, want)
	}
	for i := 1; m.w.ordered && i < len(m.gone); i++ {
		if a, b := m.gone[i-1].event, m.gone[i].event; bytes.Compare(a[:], b[:]) > 0 {
			m.t.Fatalf("event %s went out before %s", a, b)
		}
	}
}

// TestWindow plays random lives of a window, then lets everything succeed: all
// that is in the table goes out, each delivery once, in order if that is asked
// for.
func TestWindow(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := &windowModel{t: t, now: time.Unix(1_000_000, 0)}
		m.w = newWindow(rapid.Bool().Draw(t, "ordered"))
		m.w.hinted = true
		for range rapid.IntRange(0, 120).Draw(t, "steps") {
			m.step()
		}
		for turn := 0; len(m.q.rows) > 0 || m.w.held() > 0; turn++ {
			if turn > 20*(m.q.created+10) {
				t.Fatalf("%d in the queue and %d held, and nothing goes on", len(m.q.rows), m.w.held())
			}
			m.now = m.now.Add(500 * time.Millisecond)
			m.discover()
			m.begin(4)
			m.end(false)
			m.take(2)
			m.attempted(0)
			m.settled()
			m.check()
		}
	})
}

// What is committed behind the place that a window has read to is found when
// discovery names it.
func TestWindowFindsLateCommits(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000, 0)
	var q table
	w := newWindow(false)
	w.hinted = true
	read := func() {
		after, limit, ok := w.read(now, 8)
		if !ok {
			t.Fatal("no read")
		}
		w.answer(now, q.read(now, false, after, limit), nil)
	}
	q.add(now, false)
	read()
	late := q.add(now.Add(-time.Hour), false)
	w.hinted = true
	read()
	if len(w.buf) != 1 {
		t.Fatalf("%d read, want the one that is not late", len(w.buf))
	}
	w.found(place{late.due, late.id})
	read()
	if len(w.buf) != 2 {
		t.Errorf("%d read, want the late one too", len(w.buf))
	}
}
