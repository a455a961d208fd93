// Command benchdelivery measures the delivery queue: from a committed event to
// the 2xx of a loopback sink, with PostgreSQL, JetStream and the sinks on the
// same machine and everything as durable as in production.
//
// It starts a private PostgreSQL cluster, an embedded NATS server and the
// sinks (a process of their own), then:
//
//  1. POSTs the bodies to the sinks with a bare Go client: raw_http_per_s.
//  2. Commits the events, each with a delivery to every target, while the queue delivers
//     them: per_s, from the first commit until the last outcome is in the
//     database. 1 and 2 take turns, several rounds; the medians count.
//  3. Commits events at a third of that pace: p50_ms and p99_ms, from an
//     event's commit to its arrival.
//  4. With -isolation, does 3 at eight targets, then again with a hanging one
//     and one that answers 500 beside them.
//
// With -chaos it kills things instead: see [bench.chaos].
//
// The last line is meant for machines. Events are read from a table as the
// event log would have them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"tocsin.dev/tocsin/delivery"
	"tocsin.dev/tocsin/delivery/webhook"
	"tocsin.dev/tocsin/internal/bus"
	"tocsin.dev/tocsin/internal/postgres"
	"tocsin.dev/tocsin/schemas"
)

func main() {
	var o options
	flag.IntVar(&o.events, "events", 10000, "events in the throughput runs")
	flag.IntVar(&o.targets, "targets", 10, "targets, each of which gets every event")
	flag.IntVar(&o.turns, "rounds", 3, "rounds of the throughput run, which share the events")
	flag.IntVar(&o.bytes, "bytes", 2048, "size of an event's data")
	flag.DurationVar(&o.paced, "paced", 10*time.Second, "length of a latency run")
	flag.BoolVar(&o.isolation, "isolation", true, "also measure next to a hanging and a failing target")
	flag.StringVar(&o.profile, "cpuprofile", "", "file for a CPU profile of the throughput run")
	flag.BoolVar(&o.stats, "stats", false, "print what PostgreSQL's statements took (needs pg_stat_statements)")
	flag.BoolVar(&o.hold, "hold", false, "hold a transaction open all the while, as a feed that loads does: no dead row can be removed")
	flag.DurationVar(&o.chaos, "chaos", 0, "kill replicas, PostgreSQL, RabbitMQ and NATS for this long instead of measuring")
	sinks := flag.Int("sinks", 0, "internal: be the sinks, this many of them")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	switch text := os.Getenv(replicaEnv); {
	case text != "":
		err = runReplica(ctx, text)
	case *sinks > 0:
		err = serveSinks(ctx, *sinks)
	default:
		err = run(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchdelivery:", err)
		os.Exit(1)
	}
}

type options struct {
	events, targets, bytes, turns int
	paced                         time.Duration
	chaos                         time.Duration
	isolation, stats, hold        bool
	profile                       string
}

// bench is what the runs share.
type bench struct {
	options
	dir     string
	pool    *pgxpool.Pool
	bus     *bus.Bus
	sinks   *sinkProcess
	backend *backend
	queue   *delivery.Store
}

func run(ctx context.Context, o options) (err error) {
	dir, err := os.MkdirTemp("", "tocsin-benchdelivery-")
	if err != nil {
		return err
	}
	var running sync.WaitGroup
	services, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		stop()
		running.Wait()
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	settings := map[string]string{}
	if o.stats {
		settings["shared_preload_libraries"] = "pg_stat_statements"
	}
	cluster := postgres.PrivateCluster(postgres.ClusterOptions{Dir: dir + "/postgres", Logger: log, Settings: settings})
	running.Go(func() { err = errors.Join(err, cluster.Run(services)) })
	nats, err := newNATS(services, dir+"/nats", log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, nats.end()) }()
	url, err := cluster.URL(ctx)
	if err != nil {
		return err
	}
	b := &bench{options: o, dir: dir}
	if b.pool, err = postgres.Open(ctx, url, postgres.WithMaxConns(8)); err != nil {
		return err
	}
	defer b.pool.Close()
	if err := postgres.Migrate(ctx, b.pool, log); err != nil {
		return err
	}
	if b.bus, err = bus.Connect(ctx, nats.url(), bus.Options{}); err != nil {
		return err
	}
	defer b.bus.Close()
	if b.backend, err = newBackend(ctx, b.pool, o.bytes); err != nil {
		return err
	}
	if o.chaos > 0 {
		return b.chaos(ctx, o.chaos, cluster, nats, log)
	}
	if b.sinks, err = startSinks(max(o.targets, 10)); err != nil {
		return err
	}
	defer b.sinks.stop()
	return b.measure(ctx, log)
}

func (b *bench) measure(ctx context.Context, log *slog.Logger) error {
	b.queue = delivery.NewStore(b.pool, delivery.StoreOptions{})
	worker := delivery.NewWorker(b.pool, delivery.Options{
		Subscriptions: b.backend, Events: b.backend, Announcer: b.backend, Waker: b.bus, Logger: log, Drain: time.Second,
		Openers: map[string]delivery.Opener{schemas.ProtocolHTTP: webhook.New(webhook.Options{Dial: new(net.Dialer).DialContext})},
	})
	qctx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- worker.Run(qctx) }()
	defer func() {
		stop()
		<-ended
	}()
	if b.hold {
		tx, err := b.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
		if _, err := tx.Exec(ctx, `SELECT count(*) FROM tocsin.queue`); err != nil {
			return err
		}
	}
	good := b.backend.subscribe(b.sinks.urls[:b.targets]...)
	if _, err := b.burst(ctx, good, 20); err != nil { // warm up
		return err
	}
	if b.stats {
		if _, err := b.pool.Exec(ctx, `CREATE EXTENSION pg_stat_statements`); err != nil {
			return err
		}
	}
	stopProfile := func() {}
	if b.profile != "" {
		f, err := os.Create(b.profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		stopProfile = pprof.StopCPUProfile
	}
	raw, perSecond, err := b.rounds(ctx, good)
	stopProfile()
	if err != nil {
		return err
	}
	if b.stats {
		if err := b.printStatements(ctx); err != nil {
			return err
		}
	}
	pace := perSecond / 3 / float64(b.targets)
	unsaturated, err := b.pacedRun(ctx, good, len(good), pace, b.paced)
	if err != nil {
		return err
	}
	fmt.Printf("paced: %.0f events/s to %d targets, p50 %.1f ms, p99 %.1f ms\n", pace, b.targets, unsaturated.at(50), unsaturated.at(99))
	if b.isolation {
		if err := b.isolated(ctx, perSecond); err != nil {
			return err
		}
	}
	fmt.Printf("delivery events=%d targets=%d per_s=%.0f raw_http_per_s=%.0f ratio=%.2f p50_ms=%.1f p99_ms=%.1f peak_rss_mb=%.0f\n",
		b.events, b.targets, perSecond, raw, perSecond/raw, unsaturated.at(50), unsaturated.at(99), peakRSS())
	return nil
}

// rounds takes turns with the bare client and the queue, and returns the
// median of each.
func (b *bench) rounds(ctx context.Context, good []uuid.UUID) (raw, perSecond float64, err error) {
	var raws, queues []float64
	for i := range b.turns {
		before, events := b.usage(), max(b.events/b.turns, 1)
		r, posts, err := b.raw(ctx)
		if err != nil {
			return 0, 0, err
		}
		between := b.usage()
		p, err := b.burst(ctx, good, events)
		if err != nil {
			return 0, 0, err
		}
		after := b.usage()
		fmt.Printf("round %d: %.0f bare POST/s of %d bytes, %.0f deliveries/s, ratio %.2f\n", i+1, r, len(b.backend.body), p, p/r)
		fmt.Printf("  processor time of a bare POST %s\n  of a delivery, its commit included, %s\n",
			between.since(before).per(posts), after.since(between).per(events*len(good)))
		raws, queues = append(raws, r), append(queues, p)
	}
	slices.Sort(raws)
	slices.Sort(queues)
	return raws[len(raws)/2], queues[len(queues)/2], nil
}

// isolated compares eight good targets with the same eight next to a hanging
// and a failing one, unsaturated and with more work than can be done.
func (b *bench) isolated(ctx context.Context, perSecond float64) error {
	for _, load := range []struct {
		name string
		run  func(subs []uuid.UUID) (latencies, error)
	}{
		{"unsaturated", func(subs []uuid.UUID) (latencies, error) {
			return b.pacedRun(ctx, subs, 8, perSecond/3/8, b.paced/time.Duration(b.turns))
		}},
		{"saturated", func(subs []uuid.UUID) (latencies, error) { return b.flood(ctx, subs, int(perSecond)) }},
	} {
		var alone, beside latencies
		good := b.backend.subscribe(b.sinks.urls[:8]...)
		for range b.turns {
			l, err := load.run(good)
			if err != nil {
				return err
			}
			alone = append(alone, l...)
			// New ones each time: their breakers are still closed.
			bad := b.backend.subscribe(b.sinks.urls[8]+"/hang", b.sinks.urls[9]+"/fail")
			l, err = load.run(slices.Concat(good, bad))
			b.backend.remove(bad)
			if err != nil {
				return err
			}
			beside = append(beside, l...)
		}
		slices.Sort(alone)
		slices.Sort(beside)
		fmt.Printf("isolation %s: eight good targets p50 %.1f ms p99 %.1f ms; beside a hanging and a failing one p50 %.1f ms p99 %.1f ms; p99 ratio %.2f\n",
			load.name, alone.at(50), alone.at(99), beside.at(50), beside.at(99), beside.at(99)/alone.at(99))
	}
	return nil
}

// latencies are milliseconds, sorted.
type latencies []float64

func (l latencies) at(percent int) float64 {
	if len(l) == 0 {
		return 0
	}
	return l[min(len(l)*percent/100, len(l)-1)]
}

// peakRSS is the most memory this process has held, in MB.
func peakRSS() float64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		var kb float64
		if n, _ := fmt.Sscanf(line, "VmHWM: %f kB", &kb); n == 1 {
			return kb / 1024
		}
	}
	return 0
}
