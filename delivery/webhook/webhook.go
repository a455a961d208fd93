package webhook

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"tocsin.dev/tocsin/delivery"
	"tocsin.dev/tocsin/internal/standardwebhooks"
)

// Options is what an opener works with.
type Options struct {
	// Dial connects; it is where forbidden addresses are refused. It is
	// required.
	Dial delivery.DialFunc
	// Proxied sets a transport up for a proxy; nil for none.
	Proxied func(*http.Transport)
	// RootCAs are the authorities to trust where a subscription names none; nil
	// means the system's.
	RootCAs *x509.CertPool
	// UserAgent defaults to "Tocsin".
	UserAgent string
	// Origin is the WebHook-Request-Origin of the handshake, a DNS name;
	// "tocsin".
	Origin string
	// Callback is the base URL of Clair's notification API, for content mode
	// clair: the notification's id is appended to it.
	Callback string
	// Ping is how long a connection of HTTP/2 may be silent before it is asked
	// whether it still lives, and how long it has to answer; 5 s.
	Ping time.Duration
	// ClairToken signs the bearer token of each request of content mode clair
	// whose subscription brings no credential of its own; nil for none.
	ClairToken func() (string, error)
}

// Opener opens webhook targets. They share one connection pool, but for those
// with TLS settings of their own.
type Opener struct {
	o      Options
	shared *http.Transport

	mu       sync.Mutex
	consents map[consentKey]consent
}

// New returns an opener.
func New(o Options) *Opener {
	o.UserAgent = cmp.Or(o.UserAgent, "Tocsin")
	o.Origin = cmp.Or(o.Origin, "tocsin")
	o.Ping = cmp.Or(o.Ping, 5*time.Second)
	return &Opener{o: o, shared: o.transport(), consents: map[consentKey]consent{}}
}

// transport keeps connections alive up to the number that one subscription's
// concurrency asks for. It knows no proxy but that of o. A connection of HTTP/2, which all
// requests to a host share, is asked whether it still lives when nothing has
// come over it for a while, and is closed if no answer comes: without that, one
// whose packets vanish on their way would be used for every attempt until the
// operating system gives it up, a quarter of an hour later. (A connection of
// HTTP/1 ends with the attempt that timed out.)
func (o Options) transport() *http.Transport {
	t := &http.Transport{
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: o.Ping, PingTimeout: o.Ping},
		Proxy:                  nil,
		DialContext:            o.Dial,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
		MaxIdleConns:           8192,
		MaxIdleConnsPerHost:    256,
		IdleConnTimeout:        90 * time.Second,
		TLSHandshakeTimeout:    10 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}
	if o.RootCAs != nil {
		t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.RootCAs}
	}
	if o.Proxied != nil {
		o.Proxied(t)
	}
	return t
}

// Close ends the shared connections that are idle, at the end of a process.
func (o *Opener) Close() { o.shared.CloseIdleConnections() }

// target is one subscription's sink. It is safe for concurrent use.
type target struct {
	transport *http.Transport
	own       bool // transport is not shared
	url       *url.URL
	header    http.Header // of every request
	keys      []standardwebhooks.Key
	until     []time.Time // when each key stops signing; zero: never
	mode      delivery.ContentMode
	callback  string
	token     func() (string, error) // nil: no bearer token beside header
	rate      float64
}

// Open implements [delivery.Opener]. It connects only for the handshake.
func (o *Opener) Open(ctx context.Context, sub delivery.Subscription) (delivery.Target, error) {
	u, header, problems := read(sub, o.o.UserAgent)
	if problems != nil {
		return nil, delivery.Invalid(problems)
	}
	t := &target{transport: o.shared, url: u, header: header, mode: cmp.Or(sub.Config.Mode, delivery.Structured), callback: cmp.Or(sub.Settings.Callback, o.o.Callback)}
	if t.mode == delivery.Clair && header.Get("Authorization") == "" {
		t.token = o.o.ClairToken
	}
	var err error
	for _, s := range sub.Secrets {
		t.until = append(t.until, sub.SecretsUntil[s])
	}
	if t.keys, err = signingKeys(sub.Secrets); err != nil {
		return nil, delivery.Failed(delivery.ClassInvalid, err)
	}
	if t.mode == delivery.Clair && t.callback == "" {
		return nil, delivery.Failed(delivery.ClassInvalid, errors.New("content mode clair needs the server's public URL to be configured"))
	}
	if sub.TLS != (delivery.TLS{}) {
		conf, err := sub.TLS.Config(o.o.RootCAs)
		if err != nil {
			return nil, err
		}
		t.transport, t.own = o.o.transport(), true
		t.transport.TLSClientConfig = conf
	}
	if sub.Config.Handshake {
		if t.rate, err = o.handshake(ctx, t, sub); err != nil {
			t.closeIdle()
			return nil, err
		}
	}
	return t, nil
}

// Deliver implements [delivery.Target].
func (t *target) Deliver(ctx context.Context, batch []delivery.Message) delivery.Outcome {
	msg := t.render(batch)
	h := make(http.Header, len(t.header)+len(msg.header)+4)
	for k, v := range t.header {
		h[k] = v
	}
	for k, v := range msg.header {
		h[k] = v
	}
	h["Content-Type"] = []string{msg.contentType}
	now := time.Now()
	h["Webhook-Id"] = []string{msg.id}
	h["Webhook-Timestamp"] = []string{fmt.Sprint(now.Unix())}
	if keys := t.keysAt(now); len(keys) > 0 {
		h["Webhook-Signature"] = []string{standardwebhooks.Signature(keys, msg.id, now, msg.body)}
	}
	if t.token != nil {
		token, err := t.token()
		if err != nil {
			return delivery.Failure(fmt.Errorf("sign the token of Clair's notifier: %w", err))
		}
		h["Authorization"] = []string{"Bearer " + token}
	}
	return t.roundTrip(ctx, http.MethodPost, h, msg.body)
}

// roundTrip sends one request and judges the answer.
func (t *target) roundTrip(ctx context.Context, method string, h http.Header, body []byte) delivery.Outcome {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req := (&http.Request{
		Method: method, URL: t.url, Host: t.url.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: h,
		Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
		GetBody: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil },
	}).WithContext(ctx)
	resp, err := t.transport.RoundTrip(req)
	if err != nil {
		return failure(ctx, err)
	}
	return judge(resp, cancel)
}

// failure is the outcome of a request without an answer.
func failure(ctx context.Context, err error) delivery.Outcome {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w (%w)", err, cause)
	}
	return delivery.Failure(err)
}

// Rate implements [delivery.Limited].
func (t *target) Rate() float64 { return t.rate }

// Close implements [delivery.Target].
func (t *target) Close(context.Context) error {
	t.closeIdle()
	return nil
}

func (t *target) closeIdle() {
	if t.own {
		t.transport.CloseIdleConnections()
	}
}

// signingKeys reads secrets; an error says what is wrong without showing them.
func signingKeys(secrets []delivery.Secret) ([]standardwebhooks.Key, error) {
	keys := make([]standardwebhooks.Key, len(secrets))
	for i, s := range secrets {
		k, err := standardwebhooks.ParseSigning(string(s))
		if err != nil {
			return nil, fmt.Errorf("secret %d of %d %w", i+1, len(secrets), err)
		}
		keys[i] = k
	}
	return keys, nil
}

// keysAt are the keys that sign at a moment: those that a rotation has replaced
// stop at the end of its overlap, however long the target is open.
func (t *target) keysAt(now time.Time) []standardwebhooks.Key {
	out := make([]standardwebhooks.Key, 0, len(t.keys))
	for i, k := range t.keys {
		if until := t.until[i]; until.IsZero() || now.Before(until) {
			out = append(out, k)
		}
	}
	return out
}
