package nats

import (
	"context"
	"crypto/tls"
	"crypto/x509"
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
	// RootCAs are the authorities to trust where a subscription names none; nil
	// means the system's.
	RootCAs *x509.CertPool
}

var _ delivery.Opener = Opener{}

// Open implements [delivery.Opener]. It does not connect.
func (o Opener) Open(_ context.Context, sub delivery.Subscription) (delivery.Target, error) {
	addresses, subject, problems := read(sub)
	if problems != nil {
		return nil, delivery.Invalid(problems)
	}
	tlsConfig, err := sub.TLS.Config(o.RootCAs)
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
	nc     *gonats.Conn
	js     jetstream.JetStream
	denied *denials
}

// pingInterval is how often a connection is tried; one that leaves two pings
// without an answer is ended.
const pingInterval = 10 * time.Second

// maxSubject bounds what a subject becomes, in bytes: a server ends a
// connection, with all that is under way on it, over a control line of 4,096.
const maxSubject = 2048

// Deliver implements [delivery.Target].
func (t *target) Deliver(ctx context.Context, batch []delivery.Message) delivery.Outcome {
	c, gen, err := t.link.Get(ctx)
	if err != nil {
		return delivery.Failure(err)
	}
	for _, m := range batch {
		if err := t.publish(ctx, c, m); err != nil {
			out := outcome(ctx, err)
			// Other messages are under way on the connection: it is ended only when
			// it is broken, which pings find out.
			if !c.nc.IsConnected() {
				t.link.Drop(gen)
			}
			return out
		}
	}
	return delivery.Delivered(0)
}

func (t *target) publish(ctx context.Context, c *connection, m delivery.Message) error {
	subject := t.subject.Expand(m.Event, broker.Word)
	if len(subject) > maxSubject {
		return delivery.Failed(delivery.ClassRejected, fmt.Errorf("the subject that this event makes has %d bytes, over the limit of %d: use fewer attributes in subject", len(subject), maxSubject))
	}
	msg := gonats.NewMsg(subject)
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
	// The server tells a forbidden subject apart from the message, at some
	// moment, to the whole connection.
	ctx, end := c.denied.watch(ctx, subject)
	defer end()
	err := t.send(ctx, c, msg)
	if denied := context.Cause(ctx); errors.Is(denied, gonats.ErrPermissionViolation) {
		return denied
	}
	return err
}

func (t *target) send(ctx context.Context, c *connection, msg *gonats.Msg) error {
	if t.settings.JetStream {
		_, err := c.js.PublishMsg(ctx, msg)
		return err
	}
	before := c.nc.LastError()
	if err := c.nc.PublishMsg(msg); err != nil {
		return err
	}
	if err := c.nc.FlushWithContext(ctx); err != nil {
		return err
	}
	// A refusal comes before the flush's answer. Another message's, which may
	// have taken the place of this one's, is no verdict on this one: the library
	// tells of each a moment later.
	err := c.nc.LastError()
	switch {
	case err == before:
		return nil
	case !errors.Is(err, gonats.ErrPermissionViolation) || concerns(err, msg.Subject):
		return err
	}
	select {
	case <-ctx.Done():
	case <-time.After(200 * time.Millisecond):
	}
	return nil
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
	denied := &denials{}
	options := []gonats.Option{
		gonats.ErrorHandler(func(_ *gonats.Conn, _ *gonats.Subscription, err error) { denied.tell(err) }),
		gonats.Name("tocsin"), gonats.Timeout(timeout), gonats.NoReconnect(), gonats.DontRandomize(),
		gonats.SetCustomDialer(dialer{ctx, t.dial}), gonats.IgnoreDiscoveredServers(),
		gonats.PingInterval(pingInterval), gonats.MaxPingsOutstanding(2),
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
	return &connection{nc: nc, js: js, denied: denied}, nil
}

// Close implements [delivery.Target].
func (t *target) Close(context.Context) error {
	t.link.Close()
	return nil
}
