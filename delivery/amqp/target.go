package amqp

import (
	"context"
	"crypto/tls"
	"errors"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"tocsin.dev/tocsin/delivery"
	"tocsin.dev/tocsin/delivery/broker"
	"tocsin.dev/tocsin/schemas"
)

// Opener opens AMQP 0-9-1 targets.
type Opener struct {
	// Dial opens every connection; it is the guard's.
	Dial delivery.DialFunc
}

var _ delivery.Opener = Opener{}

// Open implements [delivery.Opener]. It does not connect.
func (o Opener) Open(_ context.Context, sub delivery.Subscription) (delivery.Target, error) {
	addresses, key, problems := read(sub)
	if problems != nil {
		return nil, delivery.Invalid(problems)
	}
	tlsConfig, err := sub.TLS.Config()
	if err != nil {
		return nil, err
	}
	config := sub.Config.WithDefaults()
	t := &target{
		dial: o.Dial, settings: sub.Settings, tls: tlsConfig, key: key, binary: config.Mode == delivery.Binary,
		inFlight: max(config.Concurrency, config.BatchSize, 1),
	}
	t.link = broker.NewLink(addresses, t.connect, (*session).close)
	return t, nil
}

type target struct {
	dial     delivery.DialFunc
	settings schemas.ProtocolSettings
	tls      *tls.Config
	key      broker.Template
	binary   bool
	inFlight int
	link     *broker.Link[*session]
}

// Deliver implements [delivery.Target].
func (t *target) Deliver(ctx context.Context, batch []delivery.Message) delivery.Outcome {
	s, gen, err := t.link.Get(ctx)
	if err != nil {
		return delivery.Failure(err)
	}
	if s.blocked() {
		return delivery.Outcome{Class: delivery.ClassThrottled, Err: errors.New("the broker has blocked publishers: it is short of memory or disk")}
	}
	for _, m := range batch {
		out, broken := s.publish(ctx, t.settings.Exchange, t.key.Expand(m.Event, broker.Word), t.publishing(m))
		if broken {
			t.link.Drop(gen)
		}
		if out.Class != delivery.ClassDelivered {
			return out
		}
	}
	return delivery.Delivered(0)
}

func (t *target) publishing(m delivery.Message) amqp091.Publishing {
	headers := amqp091.Table{}
	for name, value := range t.settings.Headers {
		headers[name] = value
	}
	p := amqp091.Publishing{
		Headers: headers, DeliveryMode: amqp091.Persistent, MessageId: m.EventID, Timestamp: m.Event.Time(),
		Type: m.Event.Type(), AppId: "tocsin", ContentType: "application/cloudevents+json; charset=utf-8", Body: m.Structured,
	}
	if t.settings.Transient {
		p.DeliveryMode = amqp091.Transient
	}
	if t.binary {
		p.ContentType, p.Body = m.Event.DataContentType(), m.Event.Data()
		for name, value := range broker.Attributes(m.Event) {
			headers["cloudEvents_"+name] = value
		}
	}
	return p
}

// Close implements [delivery.Target].
func (t *target) Close(context.Context) error {
	t.link.Close()
	return nil
}
