package v1

import "time"

// DryRun says what a subscription would have matched.
type DryRun struct {
	Events  int      `json:"events" doc:"Recent events looked at"`
	Stopped bool     `json:"stopped,omitempty" doc:"It looked at fewer events than were asked for, because the filters cost too much or it took too long"`
	Matched int      `json:"matched" doc:"Those that the filters let through"`
	Sample  []string `json:"sample" doc:"Ids of the newest that matched" nullable:"false"`
}

// RotateRequest asks for a new signing secret. The old one goes on signing
// beside it for Overlap seconds; with 0 it stops at once, without Overlap after a
// day.
type RotateRequest struct {
	Secret  string `json:"secret,omitempty" doc:"The new secret (whsec_…); made if empty"`
	Kind    string `json:"kind,omitempty" enum:"v1,v1a" doc:"Of one to be made: v1 (HMAC, the default) or v1a (ed25519)"`
	Overlap *int   `json:"overlap_seconds,omitempty" doc:"How long the old secret goes on signing beside the new one; 0: not at all, absent: 86400" minimum:"0" maximum:"2592000"`
}

// Delivery is one event that is, or was, to be delivered to one subscription.
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
	Owner        string // whose events are listed beside everybody's; "": all
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
