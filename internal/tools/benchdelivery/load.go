package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/bus"
	"tocsin.dev/tocsin/internal/uuid7"
	"tocsin.dev/tocsin/schemas"
)

const (
	rawFor      = 3 * time.Second
	rawClients  = 64
	eventsPerTx = 100

	settledSQL = `SELECT count(*) FROM tocsin.delivery WHERE state = 'delivered' AND subscription_id = ANY(@subs::uuid[])`

	statementsSQL = `
SELECT calls, round(total_exec_time::numeric), rows, left(regexp_replace(query, '\s+', ' ', 'g'), 110)
FROM pg_stat_statements ORDER BY total_exec_time DESC LIMIT 14`
)

// raw is how many bodies a second, and in all, a bare Go client POSTs to the
// sinks.
func (b *bench) raw(ctx context.Context) (perSecond float64, posts int, err error) {
	client := &http.Client{Transport: &http.Transport{
		DialContext: new(net.Dialer).DialContext, MaxIdleConnsPerHost: rawClients, MaxIdleConns: 8192,
	}}
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, rawFor)
	defer cancel()
	var (
		posted, next atomic.Int64
		failed       error
		once         sync.Once
		wg           sync.WaitGroup
	)
	post := func() error {
		url := b.sinks.urls[int(next.Add(1))%b.targets]
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(b.backend.body))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/cloudevents+json")
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		if err == nil && resp.StatusCode != http.StatusNoContent {
			err = fmt.Errorf("a sink answered %s", resp.Status)
		}
		return err
	}
	begun := time.Now()
	for range rawClients {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := post(); err != nil {
					if ctx.Err() == nil {
						once.Do(func() { failed = err })
						cancel()
					}
					return
				}
				posted.Add(1)
			}
		})
	}
	wg.Wait()
	posts = int(posted.Load())
	return float64(posts) / time.Since(begun).Seconds(), posts, failed
}

// commit writes n events with deliveries to all of subs in one transaction and returns
// their ids.
func (b *bench) commit(ctx context.Context, n int, subs []uuid.UUID) ([]uuid.UUID, error) {
	ids := make([]uuid.UUID, n)
	owed := make([]schemas.NewDelivery, 0, n*len(subs))
	for i := range ids {
		ids[i] = uuid7.New()
		for _, s := range subs {
			owed = append(owed, schemas.NewDelivery{EventID: ids[i], SubscriptionID: s})
		}
	}
	err := pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) error {
		_, err := tx.CopyFrom(ctx, pgx.Identifier{"bench_event"}, []string{"id", "data"},
			pgx.CopyFromSlice(n, func(i int) ([]any, error) { return []any{[16]byte(ids[i]), b.backend.data}, nil }))
		if err != nil {
			return err
		}
		return b.queue.Enqueue(ctx, tx, owed)
	})
	if err == nil {
		b.bus.Wake(bus.WakeDelivery)
	}
	return ids, err
}

// burst commits n events as fast as they go, and returns the deliveries a
// second until the last one is settled.
func (b *bench) burst(ctx context.Context, subs []uuid.UUID, n int) (float64, error) {
	arrived, err := b.sinks.count(ctx)
	if err != nil {
		return 0, err
	}
	settled, err := b.settled(ctx, subs)
	if err != nil {
		return 0, err
	}
	total := n * len(subs)
	begun := time.Now()
	per := max(min(eventsPerTx, 2000/len(subs)), 1)
	for left := n; left > 0; left -= per {
		if _, err := b.commit(ctx, min(per, left), subs); err != nil {
			return 0, err
		}
	}
	// Counting rows costs as much as delivering them: that comes last.
	if err := b.wait(ctx, arrived+total, b.sinks.count); err != nil {
		return 0, err
	}
	err = b.wait(ctx, settled+total, func(ctx context.Context) (int, error) { return b.settled(ctx, subs) })
	if err != nil {
		return 0, err
	}
	took := time.Since(begun)
	got, err := b.sinks.arrivals(ctx)
	if err != nil {
		return 0, err
	}
	came := 0
	for _, at := range got {
		came += len(at)
	}
	if came != total {
		return 0, fmt.Errorf("%d deliveries arrived, want %d", came, total)
	}
	return float64(total) / took.Seconds(), nil
}

func (b *bench) settled(ctx context.Context, subs []uuid.UUID) (n int, err error) {
	err = b.pool.QueryRow(ctx, settledSQL, pgx.NamedArgs{"subs": subs}).Scan(&n)
	return n, err
}

// wait waits until count is at least want.
func (b *bench) wait(ctx context.Context, want int, count func(context.Context) (int, error)) error {
	const patience = 20 * time.Second
	last, since := 0, time.Now()
	for {
		n, err := count(ctx)
		if err != nil || n >= want {
			return err
		}
		if n != last {
			last, since = n, time.Now()
		}
		if time.Since(since) > patience {
			return fmt.Errorf("%d of %d, and no more for %v", n, want, patience)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// pacedRun commits single events at the given rate and returns how long each
// took from its commit to each of the good sinks.
func (b *bench) pacedRun(ctx context.Context, subs []uuid.UUID, good int, perSecond float64, length time.Duration) (latencies, error) {
	committed := map[uuid.UUID]int64{}
	tick := time.NewTicker(time.Duration(float64(time.Second) / perSecond))
	defer tick.Stop()
	for end := time.Now().Add(length); time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
		ids, err := b.commit(ctx, 1, subs)
		if err != nil {
			return nil, err
		}
		committed[ids[0]] = time.Now().UnixNano()
	}
	return b.collect(ctx, committed, good)
}

// flood commits many events at once, more than can be delivered at once.
func (b *bench) flood(ctx context.Context, subs []uuid.UUID, deliveries int) (latencies, error) {
	committed := map[uuid.UUID]int64{}
	for range deliveries / 8 / eventsPerTx {
		ids, err := b.commit(ctx, eventsPerTx, subs)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			committed[id] = time.Now().UnixNano()
		}
	}
	return b.collect(ctx, committed, 8)
}

// collect waits for every event to have arrived at as many sinks, and returns
// how long each took.
func (b *bench) collect(ctx context.Context, committed map[uuid.UUID]int64, sinks int) (latencies, error) {
	var l latencies
	want := len(committed) * sinks
	for deadline := time.Now().Add(time.Minute); len(l) < want; {
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%d of %d deliveries arrived within a minute", len(l), want)
		}
		got, err := b.sinks.arrivals(ctx)
		if err != nil {
			return nil, err
		}
		for id, ats := range got {
			at, ok := committed[id]
			if !ok {
				continue
			}
			for _, a := range ats {
				l = append(l, float64(a-at)/1e6)
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	slices.Sort(l)
	return l, nil
}

func (b *bench) printStatements(ctx context.Context) error {
	rows, err := b.pool.Query(ctx, statementsSQL)
	if err != nil {
		return err
	}
	var (
		calls, n int64
		ms       float64
		query    string
	)
	_, err = pgx.ForEachRow(rows, []any{&calls, &ms, &n, &query}, func() error {
		fmt.Printf("%8d calls %8.0f ms %9d rows  %s\n", calls, ms, n, query)
		return nil
	})
	return err
}
