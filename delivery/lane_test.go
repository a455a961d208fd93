package delivery

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"pgregory.net/rapid"

	"tocsin.dev/tocsin/schemas"
)

// laneModel is the rest of a replica around one lane: the queue and the lane's
// row as variables, a target that fails as often as it is told to, and looks
// for due work every second. It runs in a bubble: its hours take no time.
type laneModel struct {
	life  context.Context
	tasks sync.WaitGroup
	extra *budget

	mu       sync.Mutex
	rand     *rand.Rand
	faults   []error
	q        table
	sub      Subscription
	lane     *lane
	token    int64
	row      breakerRow
	wait     time.Time // not_before
	version  int64     // that wait is about
	acting   bool
	troubled bool                   // attempts and the database may fail
	under    map[uuid.UUID]struct{} // under attempt
	alone    time.Time              // the target asked to be left alone until then
	aloneFor int64                  // the version it asked
	gone     []uuid.UUID            // events delivered, in order
	attempts int
}

func (m *laneModel) fault(format string, args ...any) {
	m.faults = append(m.faults, fmt.Errorf(format, args...))
}

func (m *laneModel) chance(percent int) bool { return m.troubled && m.rand.IntN(100) < percent }

// later runs f after up to most, as the database and targets take time.
func (m *laneModel) later(most time.Duration, f func()) {
	m.mu.Lock()
	d := time.Duration(m.rand.Int64N(int64(most)))
	m.mu.Unlock()
	m.tasks.Go(func() {
		time.Sleep(d)
		f()
	})
}

func (m *laneModel) now() time.Time                { return time.Now() }
func (m *laneModel) start(f func())                { m.tasks.Go(f) }
func (m *laneModel) announcer() Announcer          { return m }
func (m *laneModel) close(context.Context, Target) {}

func (m *laneModel) mayAct() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.acting
}

func (m *laneModel) read(f fetch) {
	m.later(20*time.Millisecond, func() {
		m.mu.Lock()
		fails := m.chance(5)
		rows := slices.Clone(m.q.read(time.Now(), f.ordered, f.after, f.limit))
		m.mu.Unlock()
		m.later(20*time.Millisecond, func() {
			if fails {
				f.lane.post(fetched{err: errors.New("away")})
				return
			}
			f.lane.post(fetched{rows: rows})
		})
	})
}

func (m *laneModel) settle(some []settlement) {
	m.later(100*time.Millisecond, func() {
		byLane := map[*lane]settled{}
		m.mu.Lock()
		for _, s := range some {
			byLane[s.lane] = append(byLane[s.lane], s.id)
			if s.lane.token == m.token {
				m.q.settle(s.id, time.Now().Add(s.delay), s.state != statePending)
			}
		}
		token := m.token
		m.mu.Unlock()
		for l, ids := range byLane {
			if l.token != token {
				l.post(lost{})
			}
			l.post(ids)
		}
	})
}

func (m *laneModel) attempt(ctx context.Context, target *openTarget, batch []row) []result {
	c := target.sub.Config
	begun := time.Now()
	m.mu.Lock()
	m.attempts++
	current := m.lane != nil && m.lane.ctx == ctx // not stolen meanwhile
	for _, r := range batch {
		if _, twice := m.under[r.id]; twice && current {
			m.fault("%s is attempted twice at once", r.id)
		}
		m.under[r.id] = struct{}{}
		if c.Ordered && r.due.After(begun) {
			m.fault("%s is attempted %v early", r.id, r.due.Sub(begun))
		}
	}
	if current && m.alone.After(begun) && m.aloneFor == target.sub.Version && m.sub.Version == target.sub.Version {
		m.fault("an attempt %v before the target wants one", m.alone.Sub(begun))
	}
	if n := len(m.under); current && n > m.mostUnder() {
		m.fault("%d under attempt at a concurrency of %d", n, m.mostUnder())
	}
	took := time.Duration(m.rand.Int64N(int64(200 * time.Millisecond)))
	out := Outcome{Class: ClassDelivered}
	unready := m.chance(3)
	switch {
	case m.chance(15):
		out = Outcome{Class: ClassRetry, Err: errors.New("500")}
	case m.chance(5):
		out = Outcome{Class: ClassThrottled, RetryAfter: time.Duration(1+m.rand.IntN(5)) * time.Second}
	case m.chance(3):
		out = Outcome{Class: ClassRejected, Err: errors.New("too large")}
	}
	m.mu.Unlock()

	select {
	case <-ctx.Done():
		out = Outcome{Class: ClassCanceled, Err: context.Cause(ctx)}
	case <-time.After(took):
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	results := make([]result, len(batch))
	for i, r := range batch {
		delete(m.under, r.id)
		results[i] = result{row: r, out: out, begun: begun, took: took}
		if unready && out.Class != ClassCanceled {
			results[i] = result{row: r, unready: true}
		} else if out.Class == ClassDelivered && current {
			m.gone = append(m.gone, r.event)
		}
	}
	if out.RetryAfter > 0 && !unready && m.lane != nil && m.lane.ctx == ctx {
		m.alone, m.aloneFor = time.Now().Add(out.RetryAfter), target.sub.Version
	}
	return results
}

// mostUnder is how many deliveries may be under attempt: those begun before a
// change of the subscription count by what it said then.
func (m *laneModel) mostUnder() int { return 8 }

func (m *laneModel) write(ctx context.Context, _ uuid.UUID, n note) error {
	m.mu.Lock()
	d, fails := time.Duration(m.rand.Int64N(int64(300*time.Millisecond))), m.chance(10)
	m.mu.Unlock()
	time.Sleep(d) // it may well be slower than the outcome
	if fails {
		return errors.New("away")
	}
	return n(ctx, laneTx{model: m})
}

func (m *laneModel) give(l *lane, _ endReason) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lane == l {
		m.lane = nil
	}
}

func (*laneModel) SubscriptionFailing(context.Context, pgx.Tx, schemas.SubscriptionState) error {
	return nil
}
func (*laneModel) SubscriptionRecovered(context.Context, pgx.Tx, schemas.SubscriptionState) error {
	return nil
}
func (*laneModel) SubscriptionDisabled(context.Context, pgx.Tx, schemas.SubscriptionState) error {
	return nil
}

// laneTx runs the statements on the lane's row.
type laneTx struct {
	pgx.Tx
	model *laneModel
}

func (laneTx) Exec(context.Context, string, ...any) (pgconn.CommandTag, error) {
	return pgconn.CommandTag{}, nil
}

func (tx laneTx) QueryRow(_ context.Context, sql string, args ...any) pgx.Row {
	m := tx.model
	m.mu.Lock()
	defer m.mu.Unlock()
	a := args[0].(pgx.NamedArgs)
	if a["token"] != m.token {
		return scanner(func(...any) error { return pgx.ErrNoRows })
	}
	wait := func() {
		if t := time.Now().Add(time.Duration(a["wait"].(int64)) * time.Microsecond); t.After(m.wait) {
			m.wait = t
		}
		m.version = a["version"].(int64)
	}
	switch sql {
	case openSQL:
		m.row.state, m.row.opens = BreakerOpen, a["opens"].(int)
		wait()
	case holdSQL:
		wait()
	case unholdSQL:
		m.wait = time.Time{}
	case closeSQL:
		m.row, m.wait = breakerRow{state: BreakerClosed}, time.Time{}
	}
	return scanner(func(dest ...any) error {
		if at, ok := dest[0].(*time.Time); ok {
			*at = time.Now()
		}
		return nil
	})
}

type scanner func(...any) error

func (s scanner) Scan(dest ...any) error { return s(dest...) }

// look is discovery: a hint and the first due delivery to the lane, or a new
// lane.
func (m *laneModel) look() {
	m.mu.Lock()
	now := time.Now()
	if m.version != m.sub.Version && m.lane == nil {
		m.wait = time.Time{} // it was the old subscription that was to wait
	}
	first, due := m.q.first(now)
	l := m.lane
	if l == nil && due && m.acting && !m.wait.After(now) {
		m.token++
		m.wait = time.Time{}
		if m.row.state == BreakerOpen {
			m.row.state = BreakerHalfOpen
		}
		l = newLane(m, m.life, m.sub, uuid.Nil, m.token, m.row, m.extra)
		m.lane = l
		m.tasks.Go(l.run)
	}
	m.mu.Unlock()
	if l == nil {
		return
	}
	l.hint()
	if due {
		l.post(firstDue(first))
	}
}

// change gives the subscription a new version.
func (m *laneModel) change(f func(*Config)) {
	m.mu.Lock()
	m.sub.Version++
	f(&m.sub.Config)
	sub, l := m.sub, m.lane
	m.mu.Unlock()
	if l != nil {
		l.post(reconfigured(sub))
	}
}

// steal makes the lane another replica's for a moment.
func (m *laneModel) steal() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l := m.lane; l != nil {
		m.token++
		m.lane = nil
		m.under = map[uuid.UUID]struct{}{}
		m.alone = time.Time{} // what the lane had not noted is lost
		m.tasks.Go(func() { l.post(lost{}) })
	}
}

func (m *laneModel) check(t *rapid.T) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.faults) > 0 {
		t.Fatal(errors.Join(m.faults...))
	}
}

// TestLane plays the whole lives of lanes: work that comes and is dropped, a
// target that fails, throttles and recovers, a database that is slow and
// fails, changes of the subscription, leases that run out and lanes that go to
// another replica. Once that trouble ends, everything goes out within minutes,
// and a lane that is told to end does.
func TestLane(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(bubbled{t}, func(t *rapid.T) {
			life, stop := context.WithCancel(context.Background())
			seed := rapid.Uint64().Draw(t, "seed")
			m := &laneModel{
				life: life, rand: rand.New(rand.NewPCG(seed, seed)), extra: newBudget(3), acting: true, troubled: true,
				row: breakerRow{state: BreakerClosed}, under: map[uuid.UUID]struct{}{},
			}
			defer m.tasks.Wait()
			defer stop()
			ordered := rapid.Bool().Draw(t, "ordered")
			m.sub = Subscription{Version: 1, Config: Config{
				Ordered: ordered, Concurrency: rapid.IntRange(1, 4).Draw(t, "concurrency"),
				Rate: float64(rapid.IntRange(0, 1).Draw(t, "rated") * 5), Schedule: slices.Repeat([]time.Duration{time.Second}, 30), Jitter: -1,
				Breaker: BreakerConfig{ConsecutiveFailures: 3, OpenFor: time.Second, MaxOpenFor: 4 * time.Second},
			}.WithDefaults()}
			if rapid.Bool().Draw(t, "batched") {
				m.sub.Config.Mode, m.sub.Config.BatchSize = Batched, 2
			}
			for range rapid.IntRange(1, 60).Draw(t, "steps") {
				switch rapid.IntRange(0, 9).Draw(t, "what") {
				case 0, 1, 2:
					m.mu.Lock()
					for range 1 + m.rand.IntN(8) {
						m.q.add(time.Now(), false)
					}
					m.mu.Unlock()
					m.look()
				case 3, 4, 5:
					time.Sleep(time.Duration(rapid.IntRange(1, 1500).Draw(t, "ms")) * time.Millisecond)
					m.look()
				case 6:
					m.change(func(c *Config) { c.Rate = float64(m.rand.IntN(2) * 5) })
				case 7:
					m.mu.Lock()
					m.acting = !m.acting
					l := m.lane
					m.mu.Unlock()
					if l != nil {
						l.hint()
					}
				case 8:
					m.steal()
				case 9:
					m.mu.Lock()
					l := m.lane
					m.mu.Unlock()
					if l != nil {
						l.post(end(rapid.SampledFrom([]endReason{endIdle, endInactive}).Draw(t, "why")))
					}
				}
				m.check(t)
			}
			// The trouble ends.
			m.mu.Lock()
			m.troubled, m.acting = false, true
			m.mu.Unlock()
			calm := time.Now()
			for {
				m.look()
				time.Sleep(time.Second)
				m.mu.Lock()
				left := len(m.q.rows)
				m.mu.Unlock()
				if left == 0 {
					break
				}
				// A rate of 5 a second, and waits of up to 5 s before.
				if d := time.Since(calm); d > 30*time.Second+time.Duration(m.q.created)*300*time.Millisecond {
					t.Fatalf("%d deliveries stand still for %v: %+v", left, d, m.lane)
				}
			}
			m.check(t)
			m.mu.Lock()
			if ordered && len(m.gone) > 0 {
				// What was delivered and could not be settled is delivered again, later.
				seen := map[uuid.UUID]bool{}
				var first []string
				for _, id := range m.gone {
					if !seen[id] {
						seen[id] = true
						first = append(first, id.String())
					}
				}
				if !slices.IsSorted(first) {
					t.Fatalf("not in order: %v", first)
				}
			}
			l := m.lane
			m.mu.Unlock()
			if l != nil {
				l.post(end(endShutdown))
				select {
				case <-l.ended:
				case <-time.After(time.Minute):
					t.Fatal("a lane that is to end does not")
				}
			}
			stop()
			m.tasks.Wait()
			if n := m.extra.left.Load(); n != 3 {
				t.Fatalf("%d permits of the budget in the end, want 3", n)
			}
		})
	})
}

// A lane with nothing to do gives itself back after a while, on its own.
func TestIdleLaneEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		life, stop := context.WithCancel(t.Context())
		m := &laneModel{
			life: life, rand: rand.New(rand.NewPCG(1, 1)), extra: newBudget(1), acting: true, row: breakerRow{state: BreakerClosed},
			under: map[uuid.UUID]struct{}{}, sub: Subscription{Version: 1, Config: Config{}.WithDefaults()},
		}
		m.q.add(time.Now(), false)
		m.look()
		m.mu.Lock()
		l := m.lane
		m.mu.Unlock()
		begun := time.Now()
		<-l.ended
		if d := time.Since(begun); d < idleAfter || d > idleAfter+time.Second {
			t.Errorf("ended after %v, want %v", d, idleAfter)
		}
		if len(m.q.rows) != 0 {
			t.Error("it left a delivery behind")
		}
		stop()
		m.tasks.Wait()
	})
}
