package schemas

import (
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// Protocols of a subscription's sink, as in the CloudEvents Subscriptions API.
const (
	ProtocolHTTP  = "HTTP"
	ProtocolAMQP  = "AMQP"
	ProtocolSTOMP = "STOMP"
	ProtocolNATS  = "NATS"
)

// Content modes of SubscriptionConfig.Mode. ModeClair sends Clair's
// {"notification_id","callback"} instead of a CloudEvent.
const (
	ModeStructured = "structured"
	ModeBinary     = "binary"
	ModeBatched    = "batched"
	ModeClair      = "clair"
)

// Granularities of SubscriptionConfig.Granularity: an event for each manifest
// an update touched, or one digest for the whole update.
const (
	GranularityManifest = "manifest"
	GranularityUpdate   = "update"
)

// States of a subscription. An active one is matched and delivered to; a
// paused one is matched and its deliveries wait; a disabled one is neither.
const (
	StateActive   = "active"
	StatePaused   = "paused"
	StateDisabled = "disabled"
)

// Subscription is the subscription object of the API, after the CloudEvents
// Subscriptions API 1.0-wip. ID, Owner, State, Reason, Secrets, Version,
// CreatedAt and UpdatedAt are the server's; what a client sends there is
// ignored, except that Version, where not 0, is the version an update expects.
type Subscription struct {
	ID               string             `json:"id,omitempty"`
	Name             string             `json:"name,omitempty"`
	Key              string             `json:"key,omitempty"` // client key: a second creation with it answers the first one's object
	Owner            string             `json:"owner,omitempty"`
	Source           string             `json:"source,omitempty"` // only events of this source
	Types            []string           `json:"types,omitempty"`  // none: every type
	Filters          []Filter           `json:"filters,omitempty"`
	Sink             string             `json:"sink"`
	Protocol         string             `json:"protocol"`
	ProtocolSettings ProtocolSettings   `json:"protocolsettings,omitzero"`
	SinkCredential   *SinkCredential    `json:"sinkcredential,omitempty"`
	Labels           map[string]string  `json:"labels,omitempty"`
	Secret           string             `json:"secret,omitempty"` // signing secret, write-only; in an answer only when the server has just made it
	Secrets          []SecretInfo       `json:"secrets,omitempty"`
	Config           SubscriptionConfig `json:"config,omitzero"`
	State            string             `json:"state,omitempty"` // StateActive, …
	Reason           string             `json:"reason,omitempty"`
	Version          int64              `json:"version,omitempty"`
	CreatedAt        time.Time          `json:"created_at,omitzero"`
	UpdatedAt        time.Time          `json:"updated_at,omitzero"`
}

// Filter is one filter expression: exactly one of its fields is set. The
// filters of a subscription must all be true.
type Filter struct {
	Exact  map[string]string `json:"exact,omitempty"`
	Prefix map[string]string `json:"prefix,omitempty"`
	Suffix map[string]string `json:"suffix,omitempty"`
	All    []Filter          `json:"all,omitempty"`
	Any    []Filter          `json:"any,omitempty"`
	Not    *Filter           `json:"not,omitempty"`
	SQL    string            `json:"sql,omitempty"` // CloudEvents SQL 1.0
	CEL    string            `json:"cel,omitempty"` // Common Expression Language over `event` and `data`
}

// ProtocolSettings are the settings of one protocol; the fields of the others
// must be empty. Templates replace {type}, {updater}, {severity}, {subject} and
// {image} with the event's attributes.
type ProtocolSettings struct {
	Headers      map[string]string `json:"headers,omitempty"`      // HTTP, STOMP, AMQP and NATS: added to every message
	Failover     []string          `json:"failover,omitempty"`     // AMQP, STOMP, NATS: further brokers, tried in order
	Exchange     string            `json:"exchange,omitempty"`     // AMQP
	ExchangeType string            `json:"exchangetype,omitempty"` // AMQP: direct, fanout, topic, headers
	Declare      string            `json:"declare,omitempty"`      // AMQP: passive (default), active, none
	RoutingKey   string            `json:"routingkey,omitempty"`   // AMQP: template
	Transient    bool              `json:"transient,omitempty"`    // AMQP: not written to the broker's disk
	VHost        string            `json:"vhost,omitempty"`        // AMQP, STOMP
	Destination  string            `json:"destination,omitempty"`  // STOMP: template
	Subject      string            `json:"subject,omitempty"`      // NATS: template
	JetStream    bool              `json:"jetstream,omitempty"`    // NATS: wait for a stream's acknowledgement
	Callback     string            `json:"callback,omitempty"`     // HTTP, AMQP, STOMP in mode clair: base URL of notifications, instead of the server's
	Direct       bool              `json:"direct,omitempty"`       // AMQP, STOMP in mode clair: send notifications, not where they are
	Rollup       int               `json:"rollup,omitempty"`       // with Direct: changes a message
	CA           string            `json:"ca,omitempty"`           // PEM of the authorities trusted for TLS, instead of the system's
	ServerName   string            `json:"servername,omitempty"`   // TLS name to verify, instead of the sink's host
}

// SinkCredential is how to log in at the sink. Secret, AccessToken and Key are
// write-only: an answer never has them.
type SinkCredential struct {
	CredentialType string `json:"credentialtype"`        // PLAIN, ACCESSTOKEN or CERTIFICATE
	Identifier     string `json:"identifier,omitempty"`  // PLAIN: user
	Secret         string `json:"secret,omitempty"`      // PLAIN: password
	AccessToken    string `json:"accesstoken,omitempty"` // ACCESSTOKEN: bearer token
	Certificate    string `json:"certificate,omitempty"` // PEM chain of a TLS client certificate; also beside the other types
	Key            string `json:"key,omitempty"`         // PEM private key of Certificate
}

// Credential types of SinkCredential.
const (
	CredentialPlain       = "PLAIN"
	CredentialAccessToken = "ACCESSTOKEN"
	CredentialCertificate = "CERTIFICATE"
)

// SecretInfo is what may be shown of a signing secret.
type SecretInfo struct {
	ID        string     `json:"id"`
	Kind      string     `json:"kind"`                 // v1 (HMAC-SHA256) or v1a (ed25519)
	PublicKey string     `json:"public_key,omitempty"` // v1a: whpk_…
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"` // the end of a rotation's overlap
}

// SubscriptionConfig is how to deliver. A zero value means the default of the
// delivery configuration.
type SubscriptionConfig struct {
	Retry       *Retry   `json:"retry,omitempty"`
	Timeout     Duration `json:"timeout,omitzero"` // of one attempt
	Rate        *Rate    `json:"rate,omitempty"`
	Concurrency int      `json:"concurrency,omitempty"` // attempts at once, over all replicas
	Ordered     bool     `json:"ordered,omitempty"`     // one at a time, in the order of event ids
	Breaker     *Breaker `json:"breaker,omitempty"`
	Mode        string   `json:"mode,omitempty"`        // structured (default), binary, batched, clair
	BatchSize   int      `json:"batch_size,omitempty"`  // most events in a batch
	Granularity string   `json:"granularity,omitempty"` // manifest (default), update
	Handshake   bool     `json:"handshake,omitempty"`   // HTTP: ask the sink's consent first, by OPTIONS
	Paused      bool     `json:"paused,omitempty"`
}

// Retry is when a failed delivery is tried again: after Schedule[0] the second
// attempt, and so on; after the last it is a dead letter.
type Retry struct {
	Schedule []Duration `json:"schedule,omitempty"`
	Jitter   *float64   `json:"jitter,omitempty"` // 0–1, a share of each wait, either way
}

// Rate bounds attempts to a sink.
type Rate struct {
	PerSecond float64 `json:"per_second"`
	Burst     int     `json:"burst,omitempty"`
}

// Breaker is when to leave a sink alone.
type Breaker struct {
	ConsecutiveFailures int      `json:"consecutive_failures,omitempty"`
	FailureRatio        float64  `json:"failure_ratio,omitempty"` // 0–1, of at least MinAttempts within Window
	MinAttempts         int      `json:"min_attempts,omitempty"`
	Window              Duration `json:"window,omitzero"`
	OpenFor             Duration `json:"open_for,omitzero"`      // doubles at each failed probe
	MaxOpenFor          Duration `json:"max_open_for,omitzero"`  // up to this
	DisableAfter        Duration `json:"disable_after,omitzero"` // of failure only
}

// Target is a subscription as delivery needs it, with its credentials in
// clear. It must never be logged or put on the wire.
type Target struct {
	Subscription   Subscription    // SinkCredential without its secrets
	Credential     *SinkCredential // in clear
	SigningSecrets []string        // whsec_… and whsk_…, newest first, none expired
	// SigningUntil is when each of those signing secrets stops that a rotation
	// has replaced.
	SigningUntil map[string]time.Time
}

// LogValue keeps credentials out of logs.
func (t Target) LogValue() slog.Value { return slog.StringValue(t.Subscription.ID) }

// Duration is a time.Duration written as Go writes it, such as "1m30s".
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("duration %q is not like \"30s\" or \"5m\": %w", text, err)
	}
	*d = Duration(v)
	return nil
}

// AllFilters are the filters that an event has to pass: the subscription's own,
// and one for its source, which comes last so that the others keep their pointers.
func (s Subscription) AllFilters() []Filter {
	if s.Source == "" {
		return s.Filters
	}
	return append(slices.Clone(s.Filters), Filter{Exact: map[string]string{"source": s.Source}})
}
