package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"

	"github.com/google/uuid"
	amqp091 "github.com/rabbitmq/amqp091-go"

	"tocsin.dev/tocsin/delivery/targettest/node"
	"tocsin.dev/tocsin/schemas"
)

// amqpScheme is how the backend knows a sink that is a broker.
const amqpScheme = "amqp://"

// rabbit is a RabbitMQ node with one durable queue that can crash.
type rabbit struct {
	node      *node.RabbitMQ
	restarted chan error // after a crash, how the start went
}

// chaosQueue is the queue that events for RabbitMQ go to.
const chaosQueue = "chaos"

// startRabbitMQ starts a node with its data in dir. The error is
// [node.ErrNoRabbitMQ] where there is none to start.
func startRabbitMQ(ctx context.Context, dir string) (r *rabbit, err error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	n, err := node.NewRabbitMQ(dir, node.RabbitMQOptions{})
	if err != nil {
		return nil, err
	}
	r = &rabbit{node: n}
	defer func() {
		if err != nil {
			n.Stop()
		}
	}()
	if err := n.Start(ctx); err != nil {
		return nil, err
	}
	conn, err := amqp091.Dial(r.url())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		return nil, err
	}
	_, err = ch.QueueDeclare(chaosQueue, true, false, false, false, nil)
	return r, err
}

func (r *rabbit) url() string {
	u := url.URL{Scheme: "amqp", User: url.UserPassword(r.node.User, r.node.Password), Host: node.Address(r.node.AMQP)}
	return u.String()
}

// crash kills the node with SIGKILL and has it started again, which
// [rabbit.ready] waits for.
func (r *rabbit) crash(ctx context.Context) {
	r.node.Kill()
	r.restarted = make(chan error, 1)
	go func() { r.restarted <- r.node.Start(ctx) }()
}

// ready waits for the start after a crash, if there was one.
func (r *rabbit) ready() error {
	if r.restarted == nil {
		return nil
	}
	err := <-r.restarted
	r.restarted = nil
	return err
}

func (r *rabbit) stop() {
	_ = r.ready() // it is ended either way
	r.node.Stop()
}

// drain empties the queue into the ledger, what is there and what still
// comes, until the connection it returns is closed.
func (r *rabbit) drain(l *ledger, sub uuid.UUID) (*amqp091.Connection, error) {
	conn, err := amqp091.Dial(r.url())
	if err != nil {
		return nil, err
	}
	ch, err := conn.Channel()
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	q, err := ch.QueueDeclarePassive(chaosQueue, true, false, false, false, nil)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	fmt.Printf("chaos: RabbitMQ's queue holds %d events\n", q.Messages)
	events, err := ch.Consume(chaosQueue, "", true, true, false, false, nil)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	go func() {
		for e := range events {
			if id, err := uuid.Parse(e.MessageId); err == nil {
				l.arrive(pair{id, sub})
			}
		}
	}()
	return conn, nil
}

// brokerTarget is a subscription that delivers to the queue of a broker. It is
// soon tried again, and never given up while the broker starts.
func brokerTarget(id uuid.UUID, sink string) schemas.Target {
	retry := &schemas.Retry{}
	for range 60 {
		retry.Schedule = append(retry.Schedule, schemas.Duration(2*time.Second))
	}
	return schemas.Target{Subscription: schemas.Subscription{
		ID: id.String(), Sink: sink, Protocol: schemas.ProtocolAMQP, State: schemas.StateActive, Version: 1,
		ProtocolSettings: schemas.ProtocolSettings{RoutingKey: chaosQueue},
		Config: schemas.SubscriptionConfig{
			Retry:   retry,
			Breaker: &schemas.Breaker{OpenFor: schemas.Duration(2 * time.Second), MaxOpenFor: schemas.Duration(5 * time.Second)},
		},
	}}
}
