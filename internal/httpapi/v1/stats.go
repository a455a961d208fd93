package v1

import "time"

// Stats is the state of the hub at one moment.
type Stats struct {
	Images map[string]int `json:"images" doc:"Manifests by state"`
	Jobs   map[string]int `json:"jobs" doc:"Jobs by state"`
	// PendingUpdates counts updaters whose newest update has not been worked out
	// and told of yet.
	PendingUpdates int `json:"pending_updates" doc:"Updaters whose newest update has not been told of yet"`
	// Takeover is there while images of a Clair database are being recorded.
	Takeover      *TakeoverStats      `json:"takeover,omitempty" doc:"Images of a Clair database that are being recorded; absent when none are"`
	Deliveries    DeliveryStats       `json:"deliveries"`
	Subscriptions []SubscriptionStats `json:"subscriptions" nullable:"false"`
}

// TakeoverStats is how far the takeover of a Clair database is. No update is told
// of before it has ended.
type TakeoverStats struct {
	Images   int       `json:"images" doc:"Finished index reports that were there"`
	Recorded int       `json:"recorded" doc:"Those of them that are recorded by now"`
	Failed   int       `json:"failed" doc:"Those that can't be recorded; the log says why"`
	Started  time.Time `json:"started"`
}

// DeliveryStats sums up the delivery queue.
type DeliveryStats struct {
	Backlog       int     `json:"backlog" doc:"Deliveries due or waiting for their next attempt"`
	Dead          int     `json:"dead" doc:"Dead letters"`
	OldestSeconds float64 `json:"oldest_seconds" doc:"Age of the oldest undelivered one; 0 when there is none"`
}

// SubscriptionStats is how one subscription fares.
type SubscriptionStats struct {
	ID            string     `json:"id"`
	Name          string     `json:"name,omitempty"`
	State         string     `json:"state"`
	Breaker       string     `json:"breaker" doc:"closed, half-open or open"`
	HeldUntil     *time.Time `json:"held_until,omitempty" doc:"Until when nothing is attempted: the target asked for a pause, or the breaker is open. Resuming the subscription ends it"`
	Backlog       int        `json:"backlog"`
	Dead          int        `json:"dead"`
	OldestSeconds float64    `json:"oldest_seconds"`
	Attempts      int        `json:"attempts" doc:"Attempts in the last 24 hours"`
	SuccessRate   float64    `json:"success_rate" doc:"Share of them that were delivered, 0 to 1"`
	P50MS         float64    `json:"p50_ms"`
	P99MS         float64    `json:"p99_ms"`
	LastSuccess   *time.Time `json:"last_success,omitempty"`
}

// Token is one API token. Secret is in the answer to its creation alone.
type Token struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	Owner     string     `json:"owner" doc:"Whose subscriptions the token sees"`
	Scopes    []string   `json:"scopes" nullable:"false"`
	Secret    string     `json:"secret,omitempty" doc:"The token itself; answered once"`
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
	LastUsed  *time.Time `json:"last_used,omitempty"`
}

// TokenRequest asks for a new token.
type TokenRequest struct {
	Name      string     `json:"name" doc:"A name for people" minLength:"1" maxLength:"200"`
	Owner     string     `json:"owner,omitempty" doc:"Whose subscriptions it sees; default: its name" maxLength:"200"`
	Scopes    []string   `json:"scopes" doc:"What it may do" minItems:"1" enum:"admin,read,publish,subscriptions"`
	ExpiresAt *time.Time `json:"expires_at,omitempty" doc:"When it stops working; never if absent"`
}

// Version says what is running.
type Version struct {
	Version   string `json:"version"`
	Commit    string `json:"commit,omitempty"`
	Go        string `json:"go"`
	Claircore string `json:"claircore,omitempty"`
}
