package amqp

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"tocsin.dev/tocsin/delivery"
	"tocsin.dev/tocsin/delivery/broker"
)

// session is one connection with one channel in confirm mode.
type session struct {
	net     net.Conn
	conn    *amqp091.Connection
	channel *amqp091.Channel
	// returns holds basic.return frames. The library puts one there before it
	// resolves the confirm of the same message, so that after a confirm its
	// return, if any, is already in.
	returns  chan amqp091.Return
	closed   chan *amqp091.Error
	sequence atomic.Uint64
	// unanswered counts the messages whose outcome the broker has not told.
	// What failed stays counted: when the channel closes, one of several
	// unanswered messages is to blame, and nobody knows which.
	unanswered atomic.Int64
	alarm      alarm

	mu       sync.Mutex
	returned map[string]amqp091.Return // by correlation id
	reason   *amqp091.Error            // why the channel closed
}

func (t *target) connect(ctx context.Context, a broker.Address) (*session, error) {
	vhost := cmp.Or(t.settings.VHost, a.VHost, "/")
	raw, err := t.dial(ctx, "tcp", a.HostPort)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()
	if a.URL.Scheme == "amqps" {
		config := t.tls.Clone()
		if config.ServerName == "" {
			config.ServerName = a.URL.Hostname()
		}
		secure := tls.Client(raw, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			raw.Close()
			return nil, delivery.Failed(delivery.ClassTLS, fmt.Errorf("TLS: %w", err))
		}
		raw = secure
	}
	config := amqp091.Config{
		Vhost: vhost, Heartbeat: 10 * time.Second, Locale: "en_US",
		Properties: amqp091.Table{"product": "tocsin", "connection_name": "tocsin"},
	}
	if a.User != "" {
		config.SASL = []amqp091.Authentication{&amqp091.PlainAuth{Username: a.User, Password: a.Password}}
	} else {
		config.SASL = []amqp091.Authentication{&amqp091.ExternalAuth{}}
	}
	conn, err := amqp091.Open(raw, config)
	if err != nil {
		raw.Close()
		return nil, handshakeError(ctx, err)
	}
	s, err := t.open(raw, conn)
	if err != nil {
		raw.Close()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, err
	}
	return s, nil
}

// handshakeError classifies the failure of a connection's opening. RabbitMQ
// answers a wrong password with 403.
func handshakeError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	e, ok := errors.AsType[*amqp091.Error](err)
	if ok && (e.Code == amqp091.AccessRefused || e.Code == amqp091.NotAllowed) {
		return delivery.Failed(delivery.ClassAuth, fmt.Errorf("the broker refused the login or the virtual host: %s", e.Reason))
	}
	return fmt.Errorf("open the connection: %w", err)
}

func (t *target) open(raw net.Conn, conn *amqp091.Connection) (*session, error) {
	channel, err := conn.Channel()
	if err != nil {
		return nil, fmt.Errorf("open a channel: %w", err)
	}
	x := t.settings
	switch {
	case x.Exchange == "" || x.Declare == "none":
	case x.Declare == "active":
		err = channel.ExchangeDeclare(x.Exchange, x.ExchangeType, true, false, false, false, nil)
	default: // passive: the type is not compared, but the library wants one
		kind := x.ExchangeType
		if kind == "" {
			kind = "topic"
		}
		err = channel.ExchangeDeclarePassive(x.Exchange, kind, true, false, false, false, nil)
	}
	if e, ok := errors.AsType[*amqp091.Error](err); ok {
		class := delivery.ClassInvalid
		if e.Code == amqp091.AccessRefused {
			class = delivery.ClassAuth
		}
		return nil, delivery.Failed(class, fmt.Errorf("exchange %q: %s", x.Exchange, e.Reason))
	}
	if err != nil {
		return nil, fmt.Errorf("exchange %q: %w", x.Exchange, err)
	}
	s := &session{
		net: raw, conn: conn, channel: channel, returned: map[string]amqp091.Return{},
		returns: channel.NotifyReturn(make(chan amqp091.Return, 2*t.inFlight)),
		closed:  channel.NotifyClose(make(chan *amqp091.Error, 1)),
	}
	if err := channel.Confirm(false); err != nil {
		return nil, fmt.Errorf("confirm mode: %w", err)
	}
	// It ends with the connection, which closes the channel of notices.
	go s.alarm.watch(conn.NotifyBlocked(make(chan amqp091.Blocking, 16)))
	return s, nil
}

func (s *session) close() { s.net.Close() }

// publish sends one message and waits for its confirm. broken says that the
// session can't be used any more; shared, that it broke with other messages
// unanswered, so that the outcome says nothing about this one.
func (s *session) publish(ctx context.Context, exchange, key string, p amqp091.Publishing) (out delivery.Outcome, broken, shared bool) {
	p.CorrelationId = strconv.FormatUint(s.sequence.Add(1), 10)
	others := s.unanswered.Add(1) > 1
	// A write to a broker that has stopped reading hangs until its connection
	// is closed.
	stop := context.AfterFunc(ctx, s.close)
	confirm, err := s.channel.PublishWithDeferredConfirmWithContext(ctx, exchange, key, true, false, p)
	inTime := stop()
	if err != nil || !inTime {
		out, ofBroker := s.failure(ctx, err)
		return out, true, ofBroker && (others || s.unanswered.Load() > 1)
	}
	select {
	case <-confirm.Done():
	case <-s.alarm.on():
		// The broker has stopped reading: it may take the message later, on this
		// connection. A new connection would only hand it over once more.
		return throttled(), false, false
	case <-ctx.Done():
		return delivery.Failure(fmt.Errorf("no confirm: %w", context.Cause(ctx))), true, false
	}
	acked := confirm.Acked()
	if !acked && s.channel.IsClosed() {
		out, ofBroker := s.failure(ctx, amqp091.ErrClosed)
		return out, true, ofBroker && (others || s.unanswered.Load() > 1)
	}
	s.unanswered.Add(-1)
	if r, ok := s.takeReturn(p.CorrelationId); ok {
		return delivery.Outcome{
			Class: delivery.ClassUnroutable, Status: int(r.ReplyCode), Response: r.ReplyText,
			Err: fmt.Errorf("no queue for exchange %q and routing key %q: %s", exchange, key, r.ReplyText),
		}, false, false
	}
	if acked {
		return delivery.Delivered(0), false, false
	}
	return delivery.Outcome{Class: delivery.ClassRetry, Err: errors.New("the broker refused the message (nack), as a full queue does")}, false, false
}

// takeReturn moves what was returned so far into the map and takes out the
// one of that message.
func (s *session) takeReturn(correlation string) (amqp091.Return, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		select {
		case r, ok := <-s.returns:
			if ok {
				s.returned[r.CorrelationId] = r
				continue
			}
		default:
		}
		break
	}
	r, ok := s.returned[correlation]
	delete(s.returned, correlation)
	return r, ok
}

// reasonWait is how long the library may take to tell why a channel closed once
// the channel is known to be closed.
const reasonWait = time.Second

// closeReason is why the broker closed the channel; nil if the connection broke
// without a word.
func (s *session) closeReason() *amqp091.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reason == nil {
		select {
		case s.reason = <-s.closed:
		case <-time.After(reasonWait):
		}
	}
	return s.reason
}

// failure is the outcome of a channel that closed under a message. ofBroker
// says that the broker closed it because of a message.
func (s *session) failure(ctx context.Context, err error) (out delivery.Outcome, ofBroker bool) {
	if ctx.Err() != nil {
		if s.alarm.isOn() {
			return throttled(), false
		}
		return delivery.Failure(context.Cause(ctx)), false
	}
	reason := s.closeReason()
	if reason == nil {
		return delivery.Failure(fmt.Errorf("the connection broke: %w", err)), false
	}
	out = delivery.Outcome{Class: delivery.ClassConnect, Status: reason.Code, Response: reason.Reason, Err: reason}
	switch reason.Code {
	case amqp091.PreconditionFailed, amqp091.ContentTooLarge:
		out.Class = delivery.ClassRejected
	case amqp091.NotFound:
		out.Class = delivery.ClassInvalid
	case amqp091.AccessRefused:
		out.Class = delivery.ClassAuth
	}
	return out, out.Class != delivery.ClassConnect
}
