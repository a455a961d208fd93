package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"

	"tocsin.dev/tocsin/delivery"
	"tocsin.dev/tocsin/delivery/targettest/node"
	"tocsin.dev/tocsin/internal/bus"
	"tocsin.dev/tocsin/internal/postgres"
	"tocsin.dev/tocsin/internal/uuid7"
)

const (
	chaosReplicas = 3
	chaosTargets  = 6
	killEvery     = 1500 * time.Millisecond
)

// pair is one event to be delivered to one subscription.
type pair struct{ event, sub uuid.UUID }

// ledger is what was accepted and what arrived.
type ledger struct {
	mu       sync.Mutex
	accepted map[pair]struct{}
	arrived  map[pair]int
}

// chaos runs replicas of the queue as processes of their own, and for as long
// as asked commits events while one replica after another is killed with
// SIGKILL. A third of the way PostgreSQL is killed, half way RabbitMQ if the
// machine has it, at two thirds the NATS server is stopped and loses all it
// has. Then everything accepted must arrive, at the webhooks and in RabbitMQ's
// queue.
func (b *bench) chaos(ctx context.Context, length time.Duration, cluster *postgres.Cluster, nats *natsServer, log *slog.Logger) error {
	l := &ledger{accepted: map[pair]struct{}{}, arrived: map[pair]int{}}
	sinks := map[uuid.UUID]string{}
	var subs []uuid.UUID
	for range chaosTargets {
		sub := uuid7.New()
		s := httptest.NewServer(l.sink(sub))
		defer s.Close()
		sinks[sub] = s.URL
		subs = append(subs, sub)
	}
	queueSub := uuid7.New()
	rabbit, err := startRabbitMQ(ctx, b.dir+"/rabbitmq")
	switch {
	case errors.Is(err, node.ErrNoRabbitMQ):
		fmt.Fprintln(os.Stderr, "benchdelivery: this run leaves AMQP out:", err)
	case err != nil:
		return err
	default:
		defer rabbit.stop()
		sinks[queueSub] = rabbit.url()
		subs = append(subs, queueSub)
	}
	url, err := cluster.URL(ctx)
	if err != nil {
		return err
	}
	env, err := json.Marshal(replicaConfig{Database: url, NATS: nats.url(), Sinks: sinks})
	if err != nil {
		return err
	}
	b.queue = delivery.NewStore(b.pool, delivery.StoreOptions{})
	replicas := make([]*replica, chaosReplicas)
	for i := range replicas {
		replicas[i] = &replica{env: string(env)}
		if err := replicas[i].start(); err != nil {
			return err
		}
		defer func() { _ = replicas[i].kill() }()
	}

	stop, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	var feeding sync.WaitGroup
	feeding.Go(func() { b.feed(stop, subs, l) })
	kills, postgresDown, rabbitDown, natsDown := 0, false, rabbit == nil, false
	begun := time.Now()
	for tick := time.NewTicker(killEvery); stop.Err() == nil; {
		select {
		case <-stop.Done():
			tick.Stop()
			continue
		case <-tick.C:
		}
		r := replicas[rand.IntN(len(replicas))]
		if err := errors.Join(r.kill(), r.start()); err != nil {
			return err
		}
		kills++
		if !postgresDown && time.Since(begun) > length/3 {
			postgresDown = true
			if err := killPostgres(b.dir + "/postgres"); err != nil {
				return err
			}
			fmt.Println("chaos: killed PostgreSQL")
		}
		if !rabbitDown && time.Since(begun) > length/2 {
			rabbitDown = true
			rabbit.crash(ctx)
			fmt.Println("chaos: killed RabbitMQ")
		}
		if !natsDown && time.Since(begun) > length*2/3 {
			natsDown = true
			if err := nats.empty(ctx); err != nil {
				return err
			}
			fmt.Println("chaos: stopped and emptied NATS")
		}
	}
	feeding.Wait()
	fmt.Printf("chaos: killed a replica %d times\n", kills)
	if rabbit != nil {
		if err := rabbit.ready(); err != nil {
			return err
		}
		conn, err := rabbit.drain(l, queueSub)
		if err != nil {
			return err
		}
		defer conn.Close()
	}
	return l.verdict(ctx)
}

// feed commits events until ctx ends. Those whose commit is in doubt count as
// not accepted.
func (b *bench) feed(ctx context.Context, subs []uuid.UUID, l *ledger) {
	for ctx.Err() == nil {
		ids, err := b.commit(context.WithoutCancel(ctx), 20, subs)
		if err != nil {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		l.mu.Lock()
		for _, id := range ids {
			for _, s := range subs {
				l.accepted[pair{id, s}] = struct{}{}
			}
		}
		l.mu.Unlock()
		time.Sleep(20 * time.Millisecond)
	}
}

// sink records what arrives for one subscription.
func (l *ledger) sink(sub uuid.UUID) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return // the sender was killed: not delivered
		}
		id, err := uuid.Parse(r.Header.Get("Webhook-Id"))
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		l.arrive(pair{id, sub})
		w.WriteHeader(http.StatusNoContent)
	})
}

func (l *ledger) arrive(p pair) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.arrived[p]++
}

// verdict waits until everything has arrived, or nothing more does.
func (l *ledger) verdict(ctx context.Context) error {
	const patience = 40 * time.Second
	last, since := -1, time.Now()
	for {
		accepted, delivered, duplicates := l.count()
		if delivered != last {
			last, since = delivered, time.Now()
		}
		if delivered == accepted || time.Since(since) > patience {
			if delivered == accepted {
				time.Sleep(2 * time.Second) // duplicates may still come
				accepted, delivered, duplicates = l.count()
			}
			fmt.Printf("accepted=%d delivered=%d lost=%d duplicates=%d\n", accepted, delivered, accepted-delivered, duplicates)
			if accepted != delivered {
				return errors.New("deliveries were lost")
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (l *ledger) count() (accepted, delivered, duplicates int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p := range l.accepted {
		if n := l.arrived[p]; n > 0 {
			delivered++
			duplicates += n - 1
		}
	}
	return len(l.accepted), delivered, duplicates
}

// killPostgres kills the server of a private cluster, which starts it again.
func killPostgres(dir string) error {
	pid, err := postmaster(dir)
	if err != nil {
		return err
	}
	return syscall.Kill(pid, syscall.SIGKILL)
}

// natsServer is an embedded NATS server on a port of its own that can be
// emptied.
type natsServer struct {
	o       bus.ServerOptions
	ctx     context.Context
	stop    context.CancelFunc
	running *bus.Server
	ended   chan error
}

func newNATS(ctx context.Context, dir string, log *slog.Logger) (*natsServer, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		return nil, err
	}
	n := &natsServer{o: bus.ServerOptions{Dir: dir, Listen: addr, Logger: log}, ctx: ctx}
	n.start()
	_, err = n.running.URL(ctx)
	return n, err
}

func (n *natsServer) url() string { return "nats://" + n.o.Listen }

func (n *natsServer) start() {
	ctx, stop := context.WithCancel(n.ctx)
	n.stop, n.running, n.ended = stop, bus.Embedded(n.o), make(chan error, 1)
	go func() { n.ended <- n.running.Run(ctx) }()
}

// end stops the server.
func (n *natsServer) end() error {
	n.stop()
	return <-n.ended
}

// empty stops the server, removes all it has stored, and starts it again.
func (n *natsServer) empty(ctx context.Context) error {
	if err := n.end(); err != nil {
		return err
	}
	if err := os.RemoveAll(n.o.Dir); err != nil {
		return err
	}
	n.start()
	_, err := n.running.URL(ctx)
	return err
}
