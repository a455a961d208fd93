package stomp

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	gostomp "github.com/go-stomp/stomp/v3"
	"github.com/go-stomp/stomp/v3/frame"

	"tocsin.dev/tocsin/delivery"
	"tocsin.dev/tocsin/delivery/broker"
	"tocsin.dev/tocsin/internal/text"
	"tocsin.dev/tocsin/schemas"
)

// maxConnections bounds a target's connections.
const maxConnections = 8

// Opener opens STOMP targets.
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
	addresses, destination, problems := read(sub)
	if problems != nil {
		return nil, delivery.Invalid(problems)
	}
	tlsConfig, err := sub.TLS.Config(o.RootCAs)
	if err != nil {
		return nil, err
	}
	config := sub.Config.WithDefaults()
	links := min(config.Concurrency, maxConnections)
	if config.Ordered {
		links = 1
	}
	t := &target{
		dial: o.Dial, settings: sub.Settings, tls: tlsConfig, destination: destination, binary: config.Mode == delivery.Binary,
		asClair: config.Mode == delivery.Clair, clair: o.Clair,
		free: make(chan *broker.Link[*connection], links),
	}
	for range links {
		t.free <- broker.NewLink(addresses, t.connect, (*connection).close)
	}
	return t, nil
}

type target struct {
	dial        delivery.DialFunc
	settings    schemas.ProtocolSettings
	tls         *tls.Config
	destination broker.Template
	binary      bool
	asClair     bool
	clair       broker.Clair
	free        chan *broker.Link[*connection]
}

// connection is one STOMP session; net is kept because only closing it frees
// a Send that waits for its receipt.
type connection struct {
	net   net.Conn
	stomp *gostomp.Conn
}

func (c *connection) close() { c.net.Close() }

// Deliver implements [delivery.Target].
func (t *target) Deliver(ctx context.Context, batch []delivery.Message) delivery.Outcome {
	var link *broker.Link[*connection]
	select {
	case link = <-t.free:
		defer func() { t.free <- link }()
	case <-ctx.Done():
		return delivery.Failure(context.Cause(ctx))
	}
	for _, m := range batch {
		conn, gen, err := link.Get(ctx)
		if err != nil {
			return delivery.Failure(err)
		}
		if out := t.deliver(ctx, conn, m); out.Class != delivery.ClassDelivered {
			link.Drop(gen)
			return out
		}
	}
	return delivery.Delivered(0)
}

func (t *target) deliver(ctx context.Context, conn *connection, m delivery.Message) delivery.Outcome {
	headers := map[string]string{}
	if t.asClair {
		return t.clair.Deliver(ctx, t.settings, m, func(id string, body []byte) delivery.Outcome {
			return t.send(ctx, conn, m, id, broker.ClairContent, body, headers)
		})
	}
	contentType, body := "application/cloudevents+json; charset=utf-8", m.Structured
	if t.binary {
		contentType, body = m.Event.DataContentType(), m.Event.Data()
		for name, value := range broker.Attributes(m.Event) {
			headers["cloudEvents_"+name] = value
		}
	}
	return t.send(ctx, conn, m, m.EventID, contentType, body, headers)
}

// send sends one message and waits for its receipt. It adds to headers.
func (t *target) send(ctx context.Context, conn *connection, m delivery.Message, id, contentType string, body []byte, headers map[string]string) delivery.Outcome {
	for name, value := range t.settings.Headers {
		headers[name] = value
	}
	headers["message-key"], headers["persistent"] = id, "true"
	options := []func(*frame.Frame) error{gostomp.SendOpt.Receipt}
	for name, value := range headers {
		options = append(options, gostomp.SendOpt.Header(name, value))
	}
	stop := context.AfterFunc(ctx, conn.close)
	defer stop()
	err := conn.stomp.Send(t.destination.Expand(m.Event, broker.Word), contentType, body, options...)
	switch {
	case err == nil:
		return delivery.Delivered(0)
	case ctx.Err() != nil:
		return delivery.Failure(fmt.Errorf("no receipt: %w", context.Cause(ctx)))
	}
	return refused(err)
}

// refused tells an ERROR frame, which is the broker's answer, from a broken
// connection.
func refused(err error) delivery.Outcome {
	message, ok := errorFrame(err)
	if !ok {
		return delivery.Failure(fmt.Errorf("the connection broke: %w", err))
	}
	class := delivery.ClassRetry
	if low := strings.ToLower(message); strings.Contains(low, "too large") || strings.Contains(low, "larger than") || strings.Contains(low, "max_frame") || strings.Contains(low, "exceeds") {
		class = delivery.ClassRejected
	}
	return delivery.Outcome{Class: class, Response: message, Err: fmt.Errorf("the broker refused the message: %s", firstLine(message))}
}

func (t *target) connect(ctx context.Context, a broker.Address) (*connection, error) {
	raw, err := t.dial(ctx, "tcp", a.HostPort)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()
	if a.URL.Scheme != "stomp" {
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
	host := cmp.Or(t.settings.VHost, a.VHost, "/")
	options := []func(*gostomp.Conn) error{
		gostomp.ConnOpt.AcceptVersion(gostomp.V12),
		gostomp.ConnOpt.Host(host),
		gostomp.ConnOpt.HeartBeat(30*time.Second, 30*time.Second),
		gostomp.ConnOpt.HeartBeatGracePeriodMultiplier(2),
		gostomp.ConnOpt.RcvReceiptTimeout(0),
		gostomp.ConnOpt.Logger(silent{}),
	}
	if a.User != "" {
		options = append(options, gostomp.ConnOpt.Login(a.User, a.Password))
	}
	conn, err := gostomp.ConnectWithContext(ctx, raw, options...)
	if err != nil {
		raw.Close()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if message, ok := errorFrame(err); ok {
			return nil, delivery.Failed(delivery.ClassAuth, fmt.Errorf("the broker refused the login: %s", firstLine(message)))
		}
		return nil, err
	}
	return &connection{net: raw, stomp: conn}, nil
}

// errorFrame is what the ERROR frame that err stands for says, its header
// "message" and its body; false if err stands for none.
func errorFrame(err error) (string, bool) {
	var e gostomp.Error
	var p *gostomp.Error
	switch {
	case errors.As(err, &p):
		e = *p
	case !errors.As(err, &e):
		return "", false
	}
	if e.Frame == nil || len(e.Frame.Body) == 0 && e.Message == "connection closed" {
		return "", false
	}
	body := strings.TrimSpace(strings.Trim(string(e.Frame.Body), "\x00"))
	if body == "" || body == e.Message {
		return e.Message, true
	}
	return e.Message + ": " + body, true
}

// firstLine is the beginning of a broker's text: ActiveMQ sends stack traces.
func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.ReplaceAll(s, "\r", ""), "\n")
	return text.Clip(line, 300)
}

// Close implements [delivery.Target]: it waits for no receipt, since none is
// outstanding after the last Deliver.
func (t *target) Close(context.Context) error {
	for range cap(t.free) {
		(<-t.free).Close()
	}
	return nil
}

// silent drops the library's log lines: what they say comes back as errors.
type silent struct{}

func (silent) Debugf(string, ...any)   {}
func (silent) Infof(string, ...any)    {}
func (silent) Warningf(string, ...any) {}
func (silent) Errorf(string, ...any)   {}
func (silent) Debug(string)            {}
func (silent) Info(string)             {}
func (silent) Warning(string)          {}
func (silent) Error(string)            {}
