package delivery

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"tocsin.dev/tocsin/internal/retry"
)

// States of a delivery. A pending one is in tocsin.queue, the others are in
// tocsin.delivery.
const (
	statePending   = "pending"
	stateDelivered = "delivered"
	stateDead      = "dead"
	stateDropped   = "dropped"
)

// settleSQL writes down the outcomes of attempts. Only what this replica still
// owns counts: its row is locked against its removal, without which no lane of
// its goes to another. An outcome whose delivery is no longer in the queue is
// ignored.
const settleSQL = `
WITH me AS MATERIALIZED (
  SELECT id FROM tocsin.replica WHERE id = @owner FOR KEY SHARE
), mine AS MATERIALIZED (
  SELECT d.* FROM unnest(@ids::uuid[], @subs::uuid[], @tokens::bigint[], @states::text[], @delays::bigint[], @numbers::smallint[],
    @classes::text[], @statuses::integer[], @begun::timestamptz[], @ms::real[], @responses::text[], @errors::text[])
    AS d(id, subscription_id, token, state, delay, number, class, status, begun, ms, response, error)
  CROSS JOIN me
  JOIN tocsin.lane l ON l.subscription_id = d.subscription_id AND l.token = d.token AND l.owner = me.id
), later AS (
  UPDATE tocsin.queue q
  SET attempts = m.number, class = m.class, next_attempt_at = clock_timestamp() + m.delay * INTERVAL '1 microsecond'
  FROM mine m WHERE m.state = 'pending' AND q.id = m.id
  RETURNING m.*
), final AS (
  DELETE FROM tocsin.queue q USING mine m WHERE m.state <> 'pending' AND q.id = m.id
  RETURNING q.event_id, q.replay_of, q.attempts, m.*
), settled AS (
  INSERT INTO tocsin.delivery (id, event_id, subscription_id, state, attempts, class, replay_of)
  SELECT id, event_id, subscription_id, state, greatest(number, attempts), class, replay_of FROM final
), tried AS (
  INSERT INTO tocsin.attempt (delivery_id, number, subscription_id, at, ms, class, status, response, error)
  SELECT id, number, subscription_id, begun, ms, class, status, response, error FROM later
  UNION ALL
  SELECT id, number, subscription_id, begun, ms, class, status, response, error FROM final WHERE number > 0
  ON CONFLICT DO NOTHING
)
SELECT DISTINCT subscription_id, token FROM mine`

// settlement is one outcome on its way to the database. number is 0 where no
// attempt was made.
type settlement struct {
	lane     *lane
	id       uuid.UUID
	state    string
	delay    time.Duration
	number   int
	class    Class
	status   int
	begun    time.Time
	took     time.Duration
	response string
	err      string
}

// settler writes outcomes of all lanes, many in one statement.
type settler struct {
	w      *Worker
	signal chan struct{}

	mu      sync.Mutex
	waiting []settlement
}

func newSettler(w *Worker) *settler { return &settler{w: w, signal: make(chan struct{}, 1)} }

const (
	// settleWindow is how long outcomes gather; maxSettle how many at most go
	// in one statement.
	settleWindow = 4 * time.Millisecond
	maxSettle    = 512
)

// add queues outcomes. It does not block; lanes bound what they have waiting.
func (s *settler) add(some []settlement) {
	if len(some) == 0 {
		return
	}
	s.mu.Lock()
	s.waiting = append(s.waiting, some...)
	s.mu.Unlock()
	s.notify()
}

func (s *settler) notify() {
	select {
	case s.signal <- struct{}{}:
	default:
	}
}

func (s *settler) take() []settlement {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(len(s.waiting), maxSettle)
	some := s.waiting[:n:n]
	s.waiting = s.waiting[n:]
	if len(s.waiting) > 0 {
		s.notify()
	}
	return some
}

func (s *settler) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.signal:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(settleWindow):
		}
		if some := s.take(); len(some) > 0 {
			s.settle(ctx, some)
		}
	}
}

// settle writes outcomes, for as long as it takes: an outcome that is lost is
// a duplicate.
func (s *settler) settle(ctx context.Context, some []settlement) {
	begun := s.w.now()
	// A replica whose lease ran out has a new id, and nothing under the old one.
	owner := s.w.replica.self()
	var held map[uuid.UUID]int64
	var refused error
	if err := (retry.Pauses{First: 50 * time.Millisecond, Most: time.Second}).Do(ctx, func() (err error) {
		if held, err = s.write(ctx, owner, some); err == nil || ctx.Err() != nil {
			return err
		}
		s.w.log.WarnContext(ctx, "outcomes of deliveries not written", slog.Int("outcomes", len(some)), slog.Any("error", err))
		if unfit(err) {
			if len(some) > 1 {
				refused = err
				return retry.Permanent(err)
			}
			some[0].response, some[0].err = "", "(not recorded: the database refused it)"
		}
		return err
	}); err != nil {
		if refused != nil {
			// One of them is the cause: split, so that the others do not wait for it.
			s.settle(ctx, some[:len(some)/2])
			s.settle(ctx, some[len(some)/2:])
		}
		return
	}
	s.w.metrics.settled(len(some), s.w.now().Sub(begun))
	byLane := map[*lane][]uuid.UUID{}
	for _, o := range some {
		byLane[o.lane] = append(byLane[o.lane], o.id)
		if token, ok := held[o.lane.id]; o.state == stateDead && ok && token == o.lane.token {
			s.w.metrics.dead.WithLabelValues(o.lane.id.String()).Inc()
		}
	}
	for l, ids := range byLane {
		if token, ok := held[l.id]; !ok || token != l.token || l.owner != owner {
			l.post(lost{})
		}
		l.post(settled(ids))
	}
}

// unfit says whether an error is about the values written, so that writing
// them again is no use (SQLSTATE classes 22 and 23).
func unfit(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (strings.HasPrefix(e.Code, "22") || strings.HasPrefix(e.Code, "23"))
}

func (s *settler) write(ctx context.Context, owner uuid.UUID, some []settlement) (map[uuid.UUID]int64, error) {
	args := settleArgs(some)
	args["owner"] = owner
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	rows, err := s.w.hot.Query(ctx, settleSQL, args)
	if err != nil {
		return nil, err
	}
	held := map[uuid.UUID]int64{}
	var (
		id    uuid.UUID
		token int64
	)
	_, err = pgx.ForEachRow(rows, []any{(*[16]byte)(&id), &token}, func() error {
		held[id] = token
		return nil
	})
	return held, err
}

func settleArgs(some []settlement) pgx.NamedArgs {
	n := len(some)
	var (
		ids       = make([][16]byte, n)
		subs      = make([][16]byte, n)
		tokens    = make([]int64, n)
		states    = make([]string, n)
		delays    = make([]int64, n)
		numbers   = make([]int16, n)
		classes   = make([]string, n)
		statuses  = make([]int32, n)
		begun     = make([]time.Time, n)
		ms        = make([]float32, n)
		responses = make([]string, n)
		failures  = make([]string, n)
	)
	for i, o := range some {
		ids[i], subs[i], tokens[i] = o.id, o.lane.id, o.lane.token
		states[i], delays[i], numbers[i] = o.state, o.delay.Microseconds(), int16(o.number)
		classes[i], statuses[i] = string(o.class), int32(o.status)
		begun[i], ms[i] = o.begun, float32(o.took.Seconds()*1000)
		responses[i], failures[i] = o.response, o.err
	}
	return pgx.NamedArgs{
		"ids": ids, "subs": subs, "tokens": tokens, "states": states, "delays": delays, "numbers": numbers,
		"classes": classes, "statuses": statuses, "begun": begun, "ms": ms, "responses": responses, "errors": failures,
	}
}
