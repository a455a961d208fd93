package v1

import "time"

// AuditEntry is one line of the audit log: who did what.
type AuditEntry struct {
	ID      string         `json:"id"`
	At      time.Time      `json:"at"`
	Actor   string         `json:"actor" doc:"Name of the token; tocsin for what the server does by itself"`
	Token   string         `json:"token,omitempty" doc:"Id of the token"`
	Owner   string         `json:"owner,omitempty" doc:"Owner of the token"`
	Action  string         `json:"action" doc:"What was done: subscriptions.pause, tokens.create, partitions.drop, …"`
	Object  string         `json:"object,omitempty" doc:"To what: an id, a digest, a name"`
	Detail  map[string]any `json:"detail,omitempty"`
	Remote  string         `json:"remote,omitempty" doc:"The client's address"`
	Request string         `json:"request,omitempty" doc:"Id of the request, which the server's log has too"`
	Status  *int           `json:"status,omitempty" doc:"HTTP status of the outcome; absent where it is not known, because the server ended meanwhile, and for what was no request"`
}
