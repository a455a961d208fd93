package nats

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	gonats "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tocsin.dev/tocsin/delivery"
	"tocsin.dev/tocsin/delivery/broker"
	"tocsin.dev/tocsin/schemas"
)

// Opener opens NATS targets.
type Opener struct {
	// Dial opens every connection; it is the guard's.
	Dial delivery.DialFunc
}

var _ delivery.Opener = Opener{}

// Open implements [delivery.Opener]. It does not connect.
func (o Opener) Open(_ context.Context, sub delivery.Subscription) (delivery.Target, error) {
	addresses, subject, problems := read(sub)
	if problems != nil {
		return nil, delivery.Invalid(problems)
	}
	tlsConfig, err := sub.TLS.Config()
	if err != nil {
		return nil, err
	}
	t := &target{
		dial: o.Dial, settings: sub.Settings, tls: tlsConfig, subject: subject,
		token: string(sub.Credential.Token), binary: sub.Config.WithDefaults().Mode == delivery.Binary,
	}
	t.link = broker.NewLink(addresses, t.connect, func(c *connection) { c.nc.Close() })
	return t, nil
}

type target struct {
	dial     delivery.DialFunc
	settings schemas.ProtocolSettings
	tls      *tls.Config
	subject  broker.Template
	token    string
	binary   bool
	link     *broker.Link[*connection]
}

type connection struct {
	nc *gonats.Conn
	js jetstream.JetStream
}

// Deliver implements [delivery.Target].
func (t *target) Deliver(ctx context.Context, batch []delivery.Message) delivery.Outcome {
	c, gen, err := t.link.Get(ctx)
	if err != nil {
		return delivery.Failure(err)
	}
	for _, m := range batch {
		if err := t.publish(ctx, c, m); err != nil {
			out := outcome(ctx, err)
			if !c.nc.IsConnected() || out.Class == delivery.ClassTimeout || out.Class == delivery.ClassAuth {
				t.link.Drop(gen)
			}
			return out
		}
	}
	return delivery.Delivered(0)
}

func (t *target) publish(ctx context.Context, c *connection, m delivery.Message) error {
	msg := gonats.NewMsg(t.subject.Expand(m.Event, broker.Word))
	for name, value := range t.settings.Headers {
		msg.Header.Set(name, value)
	}
	if t.binary {
		msg.Data = m.Event.Data()
		msg.Header["ce-datacontenttype"] = []string{m.Event.DataContentType()}
		for name, value := range broker.Attributes(m.Event) {
			msg.Header["ce-"+name] = []string{value}
		}
	} else {
		msg.Data = m.Structured
		msg.Header["content-type"] = []string{"application/cloudevents+json; charset=utf-8"}
	}
	msg.Header.Set(gonats.MsgIdHdr, m.EventID)
	if t.settings.JetStream {
		_, err := c.js.PublishMsg(ctx, msg)
		return err
	}
	if err := c.nc.PublishMsg(msg); err != nil {
		return err
	}
	if err := c.nc.FlushWithContext(ctx); err != nil {
		return err
	}
	// A refusal (as of a subject's permission) comes before the flush's answer.
	return c.nc.LastError()
}

func outcome(ctx context.Context, err error) delivery.Outcome {
	fail := func(class delivery.Class, format string) delivery.Outcome {
		return delivery.Outcome{Class: class, Err: fmt.Errorf(format, err)}
	}
	switch {
	case errors.Is(err, gonats.ErrMaxPayload):
		return fail(delivery.ClassRejected, "the event is over the server's max_payload: %w")
	case errors.Is(err, gonats.ErrNoResponders), errors.Is(err, jetstream.ErrNoStreamResponse):
		return fail(delivery.ClassUnroutable, "no stream takes this subject: %w")
	case errors.Is(err, gonats.ErrPermissionViolation):
		return fail(delivery.ClassAuth, "the server forbids this subject: %w")
	case ctx.Err() != nil:
		return delivery.Failure(context.Cause(ctx))
	}
	if _, ok := errors.AsType[*jetstream.APIError](err); ok {
		return fail(delivery.ClassRetry, "the stream refused the event: %w")
	}
	return delivery.Failure(err)
}

// dialer gives the guard's dialer the shape that the library asks for.
type dialer struct {
	ctx  context.Context
	dial delivery.DialFunc
}

// Dial implements nats.CustomDialer.
func (d dialer) Dial(network, address string) (net.Conn, error) {
	return d.dial(d.ctx, network, address)
}

// SkipTLSHandshake implements nats.CustomDialer's optional half: TLS is the
// library's.
func (dialer) SkipTLSHandshake() bool { return false }

func (t *target) connect(ctx context.Context, a broker.Address) (*connection, error) {
	timeout := 10 * time.Second
	if at, ok := ctx.Deadline(); ok {
		timeout = max(time.Until(at), time.Millisecond)
	}
	scheme := "nats"
	if a.URL.Scheme != "nats" {
		scheme = "tls"
	}
	options := []gonats.Option{
		gonats.Name("tocsin"), gonats.Timeout(timeout), gonats.NoReconnect(), gonats.DontRandomize(),
		gonats.SetCustomDialer(dialer{ctx, t.dial}), gonats.IgnoreDiscoveredServers(),
	}
	if scheme == "tls" {
		config := t.tls.Clone()
		if config.ServerName == "" {
			config.ServerName = a.URL.Hostname()
		}
		options = append(options, gonats.Secure(config))
	}
	if a.User != "" {
		options = append(options, gonats.UserInfo(a.User, a.Password))
	}
	if t.token != "" {
		options = append(options, gonats.Token(t.token))
	}
	nc, err := gonats.Connect(scheme+"://"+a.HostPort, options...)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, gonats.ErrAuthorization), errors.Is(err, gonats.ErrAuthExpired), errors.Is(err, gonats.ErrAuthRevoked):
		return nil, delivery.Failed(delivery.ClassAuth, fmt.Errorf("the server refused the login: %w", err))
	case errors.Is(err, gonats.ErrSecureConnWanted), errors.Is(err, gonats.ErrSecureConnRequired):
		return nil, delivery.Failed(delivery.ClassTLS, err)
	default:
		return nil, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, err
	}
	return &connection{nc: nc, js: js}, nil
}

// Close implements [delivery.Target].
func (t *target) Close(context.Context) error {
	t.link.Close()
	return nil
}
