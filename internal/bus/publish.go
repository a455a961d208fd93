package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A Message is what is published and what is handed over.
type Message struct {
	Subject string
	// ID names the message for deduplication; none if empty.
	ID     string
	Header nats.Header // without the id
	Data   []byte
	// Deliveries is, of a message handed over, how often it has been, this
	// time included.
	Deliveries int
}

const (
	// batchWindow is how many messages PublishBatch has on their way at once.
	batchWindow = 256
	// messageTimeout is how much longer each message of a batch may make it
	// take: the server syncs every one to disk.
	messageTimeout = 100 * time.Millisecond
)

// Publish stores one message in the stream of its subject, once for each id
// within two minutes. It returns nil only when the message is stored.
func (b *Bus) Publish(ctx context.Context, subject, id string, data []byte) error {
	return b.PublishBatch(ctx, []Message{{Subject: subject, ID: id, Data: data}})
}

// PublishBatch stores messages in the streams of their subjects. It returns nil
// only when all are stored; after an error, any of them may be. Publishing the
// batch again then stores each id once.
func (b *Bus) PublishBatch(ctx context.Context, msgs []Message) error {
	if len(msgs) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout+time.Duration(len(msgs))*messageTimeout)
	defer cancel()
	err := b.publish(ctx, msgs)
	if errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, nats.ErrNoResponders) {
		// The server has lost the stream.
		if err := b.declare(ctx); err != nil {
			return err
		}
		err = b.publish(ctx, msgs)
	}
	if err != nil {
		return publishError(msgs, err)
	}
	return nil
}

func publishError(msgs []Message, err error) error {
	if errors.Is(err, nats.ErrMaxPayload) {
		return fmt.Errorf("NATS: publish to %s: %w (the server's max_payload)", msgs[0].Subject, err)
	}
	return fmt.Errorf("NATS: publish to %s: %w", msgs[0].Subject, err)
}

func (b *Bus) publish(ctx context.Context, msgs []Message) error {
	if len(msgs) == 1 {
		_, err := b.js.PublishMsg(ctx, msgs[0].nats(), jetstream.WithRetryAttempts(0))
		return err
	}
	var pending []jetstream.PubAckFuture
	for _, m := range msgs {
		f, err := b.js.PublishMsgAsync(m.nats(), jetstream.WithRetryAttempts(0))
		if err != nil {
			return err
		}
		if pending = append(pending, f); len(pending) < batchWindow {
			continue
		}
		if err := await(ctx, pending[0]); err != nil {
			return err
		}
		pending = pending[1:]
	}
	for _, f := range pending {
		if err := await(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

func await(ctx context.Context, f jetstream.PubAckFuture) error {
	select {
	case <-f.Ok():
		return nil
	case err := <-f.Err():
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (m Message) nats() *nats.Msg {
	h := nats.Header{}
	for k, v := range m.Header {
		h[k] = v
	}
	if m.ID != "" {
		h.Set(nats.MsgIdHdr, m.ID)
	}
	return &nats.Msg{Subject: m.Subject, Header: h, Data: m.Data}
}
