package amqp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"tocsin.dev/tocsin/delivery"
	"tocsin.dev/tocsin/delivery/broker"
	"tocsin.dev/tocsin/schemas"
)

// Opener opens AMQP 0-9-1 targets.
type Opener struct {
	// Dial opens every connection; it is the guard's.
	Dial delivery.DialFunc
	// RootCAs are the authorities to trust where a subscription names none; nil
	// means the system's.
	RootCAs *x509.CertPool
	// Clair makes the messages of content mode clair.
	Clair broker.Clair
}

var _ delivery.Opener = Opener{}

// Open implements [delivery.Opener]. It does not connect.
func (o Opener) Open(_ context.Context, sub delivery.Subscription) (delivery.Target, error) {
	addresses, key, problems := read(sub)
	if problems != nil {
		return nil, delivery.Invalid(problems)
	}
	tlsConfig, err := sub.TLS.Config(o.RootCAs)
	if err != nil {
		return nil, err
	}
	config := sub.Config.WithDefaults()
	t := &target{
		dial: o.Dial, settings: sub.Settings, tls: tlsConfig, key: key, binary: config.Mode == delivery.Binary,
		asClair: config.Mode == delivery.Clair, clair: o.Clair,
		inFlight: max(config.Concurrency, config.BatchSize, 1),
	}
	t.link = broker.NewLink(addresses, t.connect, (*session).close)
	t.solo = broker.NewLink(addresses, t.connect, (*session).close)
	t.alone = make(chan struct{}, 1)
	return t, nil
}

type target struct {
	dial     delivery.DialFunc
	settings schemas.ProtocolSettings
	tls      *tls.Config
	key      broker.Template
	binary   bool
	asClair  bool
	clair    broker.Clair
	inFlight int
	link     *broker.Link[*session]
	// solo is a connection for one message at a time: those whose channel was
	// closed under several. alone is taken by who uses it.
	solo  *broker.Link[*session]
	alone chan struct{}
}

// Deliver implements [delivery.Target].
func (t *target) Deliver(ctx context.Context, batch []delivery.Message) delivery.Outcome {
	for _, m := range batch {
		out := delivery.Outcome{}
		if t.asClair {
			out = t.clair.Deliver(ctx, t.settings, m, func(id string, body []byte) delivery.Outcome {
				p := t.publishing(m)
				p.MessageId, p.AppId, p.ContentType, p.Body = id, broker.ClairApp, broker.ClairContent, body
				return t.deliver(ctx, m, p)
			})
		} else {
			out = t.deliver(ctx, m, t.publishing(m))
		}
		if out.Class != delivery.ClassDelivered {
			return out
		}
	}
	return delivery.Delivered(0)
}

// deliver publishes one message. A broker closes the whole channel for one bad
// message, such as one over its size limit, without naming it: then every
// message that was unanswered on it is published again by itself, and only who
// fails alone is judged. Some of them the queue may have twice, under one
// message-id.
func (t *target) deliver(ctx context.Context, m delivery.Message, p amqp091.Publishing) delivery.Outcome {
	key := t.key.Expand(m.Event, broker.Word)
	if len(key) > maxShort {
		return delivery.Outcome{
			Class: delivery.ClassRejected,
			Err:   fmt.Errorf("the routing key that this event makes has %d bytes, over AMQP's limit of %d: use fewer attributes in routingkey", len(key), maxShort),
		}
	}
	out, shared := t.publish(ctx, t.link, key, p)
	if !shared {
		return out
	}
	select {
	case t.alone <- struct{}{}:
		defer func() { <-t.alone }()
	case <-ctx.Done():
		return delivery.Failure(context.Cause(ctx))
	}
	out, _ = t.publish(ctx, t.solo, key, p)
	return out
}

// publish sends one message over a link. shared says that the outcome is that
// of a channel and may be another message's.
func (t *target) publish(ctx context.Context, link *broker.Link[*session], key string, p amqp091.Publishing) (out delivery.Outcome, shared bool) {
	s, gen, err := link.Get(ctx)
	if err != nil {
		return delivery.Failure(err), false
	}
	if s.alarm.isOn() {
		return throttled(), false
	}
	out, broken, shared := s.publish(ctx, t.settings.Exchange, key, p)
	if broken {
		link.Drop(gen)
	}
	return out, shared
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
	t.solo.Close()
	return nil
}
