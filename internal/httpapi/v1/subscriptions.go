package v1

import "time"

// Filter is one filter expression of the CloudEvents Subscriptions API, or the
// cel dialect. Exactly one member is set.
type Filter struct {
	Exact  map[string]string `json:"exact,omitempty" doc:"Attributes that must equal the given value"`
	Prefix map[string]string `json:"prefix,omitempty" doc:"Attributes that must start with the given value"`
	Suffix map[string]string `json:"suffix,omitempty" doc:"Attributes that must end with the given value"`
	All    []Filter          `json:"all,omitempty" doc:"Every one of these must hold"`
	Any    []Filter          `json:"any,omitempty" doc:"One of these must hold"`
	Not    *Filter           `json:"not,omitempty" doc:"This must not hold"`
	SQL    string            `json:"sql,omitempty" doc:"A CloudEvents SQL expression" example:"severityrank >= 4 AND fixable"`
	CEL    string            `json:"cel,omitempty" doc:"A CEL expression over the attributes and data" example:"data.added.exists(f, f.package.name == 'openssl')"`
}

// Subscription is who wants which events, and how they get them. Secrets are
// write-only: they are in the answer to a creation or a rotation alone.
type Subscription struct {
	ID               string            `json:"id,omitempty" readOnly:"true" doc:"UUID of the subscription"`
	Name             string            `json:"name,omitempty" doc:"A name for people" maxLength:"200"`
	Owner            string            `json:"owner,omitempty" readOnly:"true" doc:"Who created it; a token with the subscriptions scope sees only its own"`
	Sink             string            `json:"sink" doc:"Where events go" example:"https://example.com/hooks/tocsin" minLength:"1" maxLength:"2048"`
	Protocol         string            `json:"protocol,omitempty" doc:"How they get there; default: by the sink's scheme" enum:"HTTP,AMQP,STOMP,NATS"`
	Types            []string          `json:"types,omitempty" doc:"Event types wanted; empty for all" maxItems:"64"`
	Filters          []Filter          `json:"filters,omitempty" doc:"All of these must hold" maxItems:"64"`
	ProtocolSettings map[string]any    `json:"protocolsettings,omitempty" doc:"Settings of the protocol, such as headers, exchange, routing key or destination"`
	SinkCredential   map[string]any    `json:"sinkcredential,omitempty" doc:"Credentials for the sink; write-only"`
	Config           map[string]any    `json:"config,omitempty" doc:"Retry schedule, timeout, rate limit, concurrency, breaker, content mode, granularity, handshake"`
	Labels           map[string]string `json:"labels,omitempty" doc:"Labels for people"`
	State            string            `json:"state,omitempty" readOnly:"true" doc:"active, paused, failing or disabled"`
	Reason           string            `json:"reason,omitempty" readOnly:"true" doc:"Why it is failing or disabled"`
	Secret           string            `json:"secret,omitempty" doc:"Signing secret (whsec_…): may be given at creation, else one is made; answered once"`
	PublicKey        string            `json:"public_key,omitempty" readOnly:"true" doc:"Public key (whpk_…) that verifies v1a signatures"`
	CreatedAt        *time.Time        `json:"created_at,omitempty" readOnly:"true"`
	UpdatedAt        *time.Time        `json:"updated_at,omitempty" readOnly:"true"`
}

// DryRun says what a subscription would have matched.
type DryRun struct {
	Events  int      `json:"events" doc:"Recent events looked at"`
	Matched int      `json:"matched" doc:"Those that the filters let through"`
	Sample  []string `json:"sample" doc:"Ids of the newest that matched" nullable:"false"`
}

// RotateRequest asks for a new signing secret. The old one goes on signing
// beside it for Overlap seconds.
type RotateRequest struct {
	Secret  string `json:"secret,omitempty" doc:"The new secret (whsec_…); made if empty"`
	Overlap int    `json:"overlap_seconds,omitempty" doc:"How long the old secret goes on signing beside the new one" default:"86400" minimum:"0" maximum:"2592000"`
}

// Delivery is one event owed to one subscription.
type Delivery struct {
	ID           string     `json:"id" doc:"UUID of the delivery"`
	EventID      string     `json:"event_id"`
	EventType    string     `json:"event_type,omitempty"`
	Subscription string     `json:"subscription" doc:"UUID of the subscription"`
	State        string     `json:"state" doc:"pending, delivering, delivered, dead or dropped"`
	Attempts     int        `json:"attempts"`
	Reason       string     `json:"reason,omitempty" doc:"Why the last attempt failed"`
	CreatedAt    time.Time  `json:"created_at"`
	DueAt        *time.Time `json:"due_at,omitempty" doc:"When the next attempt is due"`
	DeliveredAt  *time.Time `json:"delivered_at,omitempty"`
}

// Attempt is one try at a delivery.
type Attempt struct {
	ID         string    `json:"id"`
	DeliveryID string    `json:"delivery_id"`
	At         time.Time `json:"at"`
	DurationMS float64   `json:"duration_ms" doc:"Milliseconds from start to answer"`
	Status     int       `json:"status,omitempty" doc:"HTTP status code of the answer"`
	Outcome    string    `json:"outcome" doc:"delivered, or the class of the error"`
	Error      string    `json:"error,omitempty"`
	Response   string    `json:"response,omitempty" doc:"The beginning of the answer's body"`
}

// DeliveryQuery selects deliveries, newest first.
type DeliveryQuery struct {
	Paging
	Owner        string
	Subscription string
	Event        string
	State        string
	Since, Until time.Time
}

// BulkResult counts the deliveries that a bulk replay or drop touched.
type BulkResult struct {
	Deliveries int `json:"deliveries"`
}

// EventQuery selects events, newest first. Image is a shell pattern over the
// image attribute; MinRank is the least severityrank.
type EventQuery struct {
	Paging
	Types        []string
	Subject      string
	Image        string
	Updater      string
	MinRank      int
	Since, Until time.Time
}

// EventFinding is one finding of a vulnerabilities_changed event: one item of
// its lists, in full. Kind is added, removed or revised.
type EventFinding struct {
	Kind    string `json:"kind" enum:"added,removed,revised"`
	Finding any    `json:"finding" doc:"The finding; a revised one also has changes"`
}
