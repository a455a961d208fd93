package delivery

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"

	"tocsin.dev/tocsin/schemas"
)

// Secret is a string that never shows in logs or messages. string(s) is its
// value.
type Secret string

func (Secret) String() string               { return "[redacted]" }
func (Secret) GoString() string             { return "[redacted]" }
func (Secret) LogValue() slog.Value         { return slog.StringValue("[redacted]") }
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"[redacted]"`), nil }

// Subscription is what delivery needs to know of one: where to send and how.
// Everything secret in it is decrypted.
type Subscription struct {
	ID    uuid.UUID
	Name  string
	Owner string
	// Version changes with every change of the subscription, state included.
	Version int64
	// Active is false while the subscription is paused or disabled: what is
	// pending for it waits.
	Active   bool
	Protocol string
	Sink     string
	// Settings is the CloudEvents "protocolsettings" object; each protocol
	// reads its own fields. CA and ServerName are already in TLS.
	Settings   schemas.ProtocolSettings
	Credential Credential
	// Secrets sign webhooks: "whsec_" and base64 for HMAC, "whsk_" and base64
	// for an ed25519 private key. More than one while a rotation lasts, the
	// newest first.
	Secrets []Secret
	// SecretsUntil is when each of those secrets stops signing that was replaced.
	SecretsUntil map[Secret]time.Time
	TLS          TLS
	Config       Config
}

// Credential is the CloudEvents "sinkcredential". The zero value means none.
type Credential struct {
	// Username and Password are credentialtype PLAIN: HTTP basic, and the
	// login of a broker.
	Username string
	Password Secret
	// Token is credentialtype ACCESSTOKEN: an HTTP or NATS bearer token.
	Token Secret
}

// TLS says whom to trust and who to be, beside the system's roots. The zero
// value means the system's roots and no client certificate.
type TLS struct {
	CA         string // PEM; replaces the system's roots
	Cert       string // PEM, with the chain
	Key        Secret // PEM
	ServerName string
}

// Config makes the tls.Config, TLS 1.2 at least. roots are the authorities to
// trust where t names none; nil means the system's. An error is of class
// [ClassInvalid] and names the part that is wrong.
func (t TLS) Config(roots *x509.CertPool) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName, RootCAs: roots}
	if t.CA != "" {
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM([]byte(t.CA)) {
			return nil, Failed(ClassInvalid, errors.New("tls: the CA holds no PEM certificate"))
		}
	}
	if t.Cert != "" || t.Key != "" {
		cert, err := tls.X509KeyPair([]byte(t.Cert), []byte(t.Key))
		if err != nil {
			return nil, Failed(ClassInvalid, fmt.Errorf("tls: the client certificate and key: %w", err))
		}
		c.Certificates = []tls.Certificate{cert}
	}
	return c, nil
}

// ContentMode is how an event becomes a message.
type ContentMode string

// The content modes of CloudEvents, and Clair: Clair's notification in place
// of a CloudEvent. Batched exists for HTTP alone.
const (
	Structured ContentMode = schemas.ModeStructured
	Binary     ContentMode = schemas.ModeBinary
	Batched    ContentMode = schemas.ModeBatched
	Clair      ContentMode = schemas.ModeClair
)

// Config is how to deliver to one subscription. Zero values mean the
// defaults of [Config.WithDefaults].
type Config struct {
	// Schedule holds the delays between attempts: after the last a delivery
	// is a dead letter. nil means [DefaultSchedule]; empty means no retry.
	Schedule []time.Duration
	// Timeout bounds one attempt; 15 s.
	Timeout time.Duration
	// Jitter is the share of each delay by which it may be shorter or longer;
	// 0.2. Negative means none.
	Jitter float64
	// Rate is how many attempts a second at most, 0 for no limit; Burst how
	// many at once, at least 1. A batch is one attempt.
	Rate  float64
	Burst int
	// Concurrency is how many attempts at a time; 16.
	Concurrency int
	// Ordered delivers one at a time in the order of delivery ids: while the
	// head waits for its retry, all wait.
	Ordered bool
	Mode    ContentMode
	// BatchSize is how many events one batched message holds at most; 64.
	BatchSize int
	Breaker   BreakerConfig
	// Handshake asks a webhook's consent with OPTIONS before the first event.
	Handshake bool
}

// BreakerConfig is when a subscription's breaker opens and for how long. Its
// fields are called as in the API and in the configuration file.
type BreakerConfig struct {
	// ConsecutiveFailures open it; 10.
	ConsecutiveFailures int
	// FailureRatio among the attempts of the last Window opens it, once there
	// were MinAttempts of them; 0.6, 1 min and 20.
	FailureRatio float64
	Window       time.Duration
	MinAttempts  int
	// OpenFor is how long it stays open the first time; every failed probe
	// doubles that, up to MaxOpenFor; 10 s and 15 min.
	OpenFor    time.Duration
	MaxOpenFor time.Duration
	// DisableAfter is how long a subscription may do nothing but fail before
	// it is disabled; 5 days. Negative means never.
	DisableAfter time.Duration
}

// Subscriptions is where the queue learns about subscriptions.
type Subscriptions interface {
	// Targets returns those of ids that exist, as they are now, credentials in
	// clear. It is asked every second or two about all that have work, in one
	// call. What is pending for one that does not exist is dropped.
	Targets(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]schemas.Target, error)
}

// Events is where the queue gets the events it delivers. One that does not
// exist (any more) is left out; its deliveries are dropped. Where some can't be
// read for a reason of their own, it returns the others and an [Unreadable]
// error; any other error says that none can be read now.
type Events interface {
	Events(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]event.Event, error)
}

// Unreadable is an error that names events which can't be read, each with the
// reason. Their deliveries are attempts of [ClassUnreadable].
type Unreadable interface {
	error
	Unreadable() map[uuid.UUID]error
}

// DialFunc opens a network connection, refusing addresses that must not be
// called. Every target dials through one.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)
