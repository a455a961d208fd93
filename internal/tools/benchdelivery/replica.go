package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"tocsin.dev/tocsin/delivery"
	"tocsin.dev/tocsin/delivery/amqp"
	"tocsin.dev/tocsin/delivery/webhook"
	"tocsin.dev/tocsin/internal/bus"
	"tocsin.dev/tocsin/schemas"
)

// replicaEnv tells a replica process what it works with.
const replicaEnv = "TOCSIN_BENCH_REPLICA"

type replicaConfig struct {
	Database, NATS string
	Sinks          map[uuid.UUID]string
}

// runReplica is a replica's process: a delivery queue and nothing else.
func runReplica(ctx context.Context, text string) error {
	var c replicaConfig
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return err
	}
	log := slog.New(slog.DiscardHandler)
	pool, err := pgxpool.New(ctx, c.Database)
	if err != nil {
		return err
	}
	defer pool.Close()
	b, err := bus.Connect(ctx, c.NATS, bus.Options{})
	if err != nil {
		return err
	}
	defer b.Close()
	w := &backend{pool: pool, subs: map[uuid.UUID]schemas.Target{}}
	for id, sink := range c.Sinks {
		w.add(id, sink)
	}
	dial := new(net.Dialer).DialContext
	return delivery.NewWorker(pool, delivery.Options{
		Subscriptions: w, Events: w, Announcer: w, Waker: b, Logger: log,
		Openers: map[string]delivery.Opener{
			schemas.ProtocolHTTP: webhook.New(webhook.Options{Dial: dial}),
			schemas.ProtocolAMQP: amqp.Opener{Dial: dial},
		},
	}).Run(ctx)
}

// replica is the parent's side: one that is started again when it is killed.
type replica struct {
	env string
	cmd *exec.Cmd
}

func (r *replica) start() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	r.cmd = exec.Command(self)
	r.cmd.Env = append(os.Environ(), replicaEnv+"="+r.env)
	r.cmd.Stderr = os.Stderr
	return r.cmd.Start()
}

// kill ends the process as kill -9 does.
func (r *replica) kill() error {
	if err := r.cmd.Process.Kill(); err != nil {
		return fmt.Errorf("kill a replica: %w", err)
	}
	_ = r.cmd.Wait() // it says that it was killed
	return nil
}
