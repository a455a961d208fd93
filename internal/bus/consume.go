package bus

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tocsin.dev/tocsin/internal/retry"
	"tocsin.dev/tocsin/internal/traceparent"
)

// ErrTerminate, wrapped in a handler's error, drops the message for good.
var ErrTerminate = errors.New("message refused for good")

const (
	// ackWait is how long a message may be silent before it is handed to
	// another handler; a live handler's is kept alive.
	ackWait = 30 * time.Second
	// redeliverAfter is when a message whose handler failed comes again.
	redeliverAfter = 2 * time.Second
	maxBackoff     = 5 * time.Second
	// maxAckPending bounds what all processes together are handling.
	maxAckPending = 10_000
)

// Consume hands the messages of subject, which is one of a work-queue stream,
// to handle, up to concurrency at a time in this process, and shares them with
// every other process that consumes the subject. It blocks until ctx ends and
// its handlers have returned; the error is nil then. A server that is away or
// has lost its streams is waited for.
//
// A message is done when handle returns nil, dropped when it returns
// [ErrTerminate], and handed over again a little later for any other error, at
// once if ctx has ended. A panic counts as an error. However long handle takes,
// nobody else gets its message while this process lives and is connected. Its
// context has the trace context of the message's header.
func (b *Bus) Consume(ctx context.Context, subject string, concurrency int, handle func(context.Context, Message) error) error {
	c := consumer{bus: b, stream: streamOf(subject), subject: subject, handle: handle}
	var wg sync.WaitGroup
	for range max(concurrency, 1) {
		wg.Go(func() { c.work(ctx) })
	}
	wg.Wait()
	return nil
}

// streamOf is the work queue of a subject, durable the name of its consumer.
func streamOf(subject string) string {
	if subject == SubjectManifests || subject == SubjectUpdates {
		return StreamIntake
	}
	return StreamJobs
}

func durable(subject string) string { return strings.ReplaceAll(subject, ".", "-") }

type consumer struct {
	bus             *Bus
	stream, subject string
	handle          func(context.Context, Message) error
}

// work handles one message after the other until ctx ends.
func (c *consumer) work(ctx context.Context) {
	pauses := retry.Pauses{First: 100 * time.Millisecond, Most: maxBackoff}.Steps()
	for ctx.Err() == nil {
		err := c.pull(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			pauses.Reset()
			continue
		}
		if c.bus.nc.IsConnected() {
			c.bus.log.WarnContext(ctx, "cannot consume from NATS; trying again", "subject", c.subject, "error", err)
		}
		select {
		case <-ctx.Done():
		case <-c.bus.connection().Done():
		case <-time.After(pauses.NextBackOff()):
		}
	}
}

// pull declares the consumer and handles messages until something goes wrong
// or the connection has been lost and is back, which makes it declare again.
func (c *consumer) pull(ctx context.Context) error {
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.bus.connection(), cancel)()

	cons, err := c.declare(waiting)
	if err != nil {
		return err
	}
	for waiting.Err() == nil {
		batch, err := cons.Fetch(1, jetstream.FetchContext(waiting))
		if err != nil {
			return err
		}
		for m := range batch.Messages() {
			c.do(ctx, m)
		}
		if err := batch.Error(); err != nil && waiting.Err() == nil {
			return err
		}
	}
	return nil
}

// declare creates the consumer, and the streams if the server has lost them.
func (c *consumer) declare(ctx context.Context) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	cfg := jetstream.ConsumerConfig{
		Durable:       durable(c.subject),
		FilterSubject: c.subject,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       ackWait,
		MaxDeliver:    -1,
		MaxAckPending: maxAckPending,
	}
	cons, err := c.bus.js.CreateOrUpdateConsumer(ctx, c.stream, cfg)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if err := c.bus.declare(ctx); err != nil {
			return nil, err
		}
		cons, err = c.bus.js.CreateOrUpdateConsumer(ctx, c.stream, cfg)
	}
	if err != nil {
		return nil, fmt.Errorf("declare consumer of %s: %w", c.subject, err)
	}
	return cons, nil
}

// do has one message handled, keeping it ours meanwhile, and answers for it.
// An answer that is lost means that the message comes again.
func (c *consumer) do(ctx context.Context, m jetstream.Msg) {
	if ctx.Err() != nil {
		_ = m.Nak()
		return
	}
	err := c.keepAlive(ctx, m)
	switch {
	case err == nil:
		err = m.Ack()
	case errors.Is(err, ErrTerminate):
		err = m.TermWithReason(err.Error())
	case ctx.Err() != nil:
		err = m.Nak()
	default:
		c.bus.log.WarnContext(ctx, "message not handled; it comes again", "subject", c.subject, "error", err)
		err = m.NakWithDelay(redeliverAfter)
	}
	if err != nil {
		c.bus.log.WarnContext(ctx, "no answer to NATS; the message comes again", "subject", c.subject, "error", err)
	}
}

// keepAlive runs the handler and tells the server now and then that it is
// still at it.
func (c *consumer) keepAlive(ctx context.Context, m jetstream.Msg) error {
	done := make(chan error, 1)
	go func() { done <- c.safely(ctx, message(m)) }()
	tick := time.NewTicker(ackWait / 3)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-tick.C:
			// If it is lost, the message is handed over again: allowed.
			_ = m.InProgress()
		}
	}
}

func (c *consumer) safely(ctx context.Context, m Message) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return c.handle(traceparent.Into(ctx, m.Header.Get(traceparent.Header)), m)
}

func message(m jetstream.Msg) Message {
	out := Message{Subject: m.Subject(), Header: m.Headers(), Data: m.Data(), ID: m.Headers().Get(nats.MsgIdHdr), Deliveries: 1}
	if meta, err := m.Metadata(); err == nil {
		out.Deliveries = int(meta.NumDelivered)
	}
	return out
}

// Backlog says how many messages of subject are stored and not yet handled,
// those being handled included. It is 0 if the server has lost the stream.
func (b *Bus) Backlog(ctx context.Context, stream, subject string) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	s, err := b.js.Stream(ctx, stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("NATS: stream %s: %w", stream, err)
	}
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(subject))
	if err != nil {
		return 0, fmt.Errorf("NATS: stream %s: %w", stream, err)
	}
	return info.State.Subjects[subject], nil
}
