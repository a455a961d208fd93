package httpapi

import "tocsin.dev/tocsin/internal/problem"

// Errors that a service returns, wrapped or bare. Any error of a kind of package
// problem will do: these are those kinds by the names of this package.
const (
	ErrNotFound    = problem.NotFound    // answered as 404
	ErrConflict    = problem.Conflict    // answered as 409
	ErrUnavailable = problem.Unavailable // answered as 503
	ErrTooLarge    = problem.TooLarge    // answered as 413
)

// FieldError is what a service returns, wrapped or bare, for input that can't
// be accepted; several may be joined with [errors.Join]. It is answered as 422
// with one entry an error.
type FieldError = problem.Field

// Services is all that the API stands on. A nil member answers 503.
type Services struct {
	Images        Images
	Blobs         Blobs
	Reports       Reports
	Jobs          Jobs
	Updaters      Updaters
	Events        Events
	Subscriptions Subscriptions
	Deliveries    Deliveries
	Stats         Stats
	Doctor        Doctor
	Tokens        Tokens
	Ingest        Ingest
	Follows       Follows
	Audit         Audit // nil: nothing is written down
}
