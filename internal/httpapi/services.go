package httpapi

import (
	"context"
	"io"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/google/uuid"

	"tocsin.dev/tocsin/internal/access"
	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/schemas"
)

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

// Images is who knows the images: package indexer.
type Images interface {
	// Submit queues the work for one request, and names the manifests it stands
	// for. Repeating it costs nothing.
	Submit(ctx context.Context, r v1.ImageRequest) ([]v1.Submitted, error)
	List(ctx context.Context, q v1.ImageQuery) (v1.Page[v1.Image], error)
	// Get finds an image by digest or by name; of several with the name, the
	// newest.
	Get(ctx context.Context, ref string) (v1.Image, error)
	Delete(ctx context.Context, digest string) error
}

// Blobs keeps layer blobs that clients upload: package indexer.
type Blobs interface {
	// Put stores what r yields under digest once it has been verified. Input
	// over the store's limit is ErrTooLarge; another digest a *FieldError.
	Put(ctx context.Context, digest string, r io.Reader) (v1.Blob, error)
	Stat(ctx context.Context, digest string) (v1.Blob, error)
}

// Reports answers what is wrong now, and what changed: package matcher.
type Reports interface {
	// Report is the vulnerability report of an image, by digest or name.
	Report(ctx context.Context, ref string) (v1.Report, error)
	// Affected lists the images that have the vulnerability (by id or alias) now.
	Affected(ctx context.Context, id string, p v1.Paging) (v1.Page[v1.AffectedImage], error)
	// Diff lists what changed for which image from one update operation to
	// another of the same updater.
	Diff(ctx context.Context, prev, cur string, p v1.Paging) (v1.Page[v1.ImageDiff], error)
}

// Jobs is the work queue: package internal/jobs.
type Jobs interface {
	List(ctx context.Context, q v1.JobQuery) (v1.Page[v1.Job], error)
	Get(ctx context.Context, id string) (v1.Job, error)
	// Retry queues a failed job again.
	Retry(ctx context.Context, id string) (v1.Job, error)
}

// Updaters drives the vulnerability feeds: package updater.
type Updaters interface {
	List(ctx context.Context) ([]v1.UpdaterSet, error)
	// Run queues a run of one set, or of all if set is empty.
	Run(ctx context.Context, set string) ([]v1.Job, error)
	// Import loads an airgap archive.
	Import(ctx context.Context, r io.Reader) (v1.ImportResult, error)
}

// Events is the event log: package notifier.
type Events interface {
	List(ctx context.Context, q v1.EventQuery) (v1.Page[cloudevents.Event], error)
	Get(ctx context.Context, id string) (cloudevents.Event, error)
	// Findings pages through the lists of a vulnerabilities_changed event, in
	// full: first what was added, then what was removed, then what was revised,
	// each with the most severe first. kind, if not empty, picks one list.
	Findings(ctx context.Context, id, kind string, p v1.Paging) (v1.Page[v1.EventFinding], error)
	// Manifests pages through the manifests of an update's digest event.
	Manifests(ctx context.Context, id string, p v1.Paging) (v1.Page[schemas.ChangedManifest], error)
}

// Subscriptions is who wants which events: package notifier. An owner that is
// not empty sees its own alone: others are ErrNotFound.
type Subscriptions interface {
	List(ctx context.Context, owner string, p v1.Paging) (v1.Page[schemas.Subscription], error)
	Get(ctx context.Context, owner, id string) (schemas.Subscription, error)
	// Create is idempotent by s.Key, if it is not empty: the same key answers
	// the same subscription, without its secret, and false.
	Create(ctx context.Context, owner string, s schemas.Subscription) (schemas.Subscription, bool, error)
	Replace(ctx context.Context, owner, id string, s schemas.Subscription) (schemas.Subscription, error)
	Delete(ctx context.Context, owner, id string) error
	Pause(ctx context.Context, owner, id string) (schemas.Subscription, error)
	Resume(ctx context.Context, owner, id string) (schemas.Subscription, error)
	// Test sends a ping to it and returns the event's id.
	Test(ctx context.Context, owner, id string) (string, error)
	Rotate(ctx context.Context, owner, id string, r v1.RotateRequest) (schemas.Subscription, error)
	// DryRun tries a subscription that need not exist on the newest events.
	DryRun(ctx context.Context, s schemas.Subscription, events int) (v1.DryRun, error)
}

// Deliveries is the delivery queue: package delivery.
type Deliveries interface {
	List(ctx context.Context, q v1.DeliveryQuery) (v1.Page[v1.Delivery], error)
	Get(ctx context.Context, owner, id string) (v1.Delivery, error)
	Attempts(ctx context.Context, owner, id string) ([]v1.Attempt, error)
	// Replay makes a delivery due now, whatever its state, under the same
	// event id.
	Replay(ctx context.Context, owner, id string) (v1.Delivery, error)
	Drop(ctx context.Context, owner, id string) (v1.Delivery, error)
	// ReplayMany and DropMany do it to all that q selects, whatever its paging.
	ReplayMany(ctx context.Context, q v1.DeliveryQuery) (int, error)
	DropMany(ctx context.Context, q v1.DeliveryQuery) (int, error)
}

// Tokens keeps the API tokens: package internal/access.
type Tokens interface {
	// Create makes a token; an empty owner is its name.
	Create(ctx context.Context, name, owner string, scopes []access.Scope, expires *time.Time) (access.Token, string, error)
	List(ctx context.Context) ([]access.Token, error)
	// Revoke ends one; [access.ErrNotFound] if there is none.
	Revoke(ctx context.Context, id uuid.UUID) error
}

// Gate knows who a request comes from: package internal/access.
type Gate interface {
	// Authenticate is given the client's host and the bearer token. Its errors
	// are [access.ErrUnknown], [access.ErrThrottled], and the store's.
	Authenticate(ctx context.Context, host, token string) (access.Principal, error)
}

// Stats sums up the hub. An owner that is not empty sees its own subscriptions
// alone.
type Stats interface {
	Stats(ctx context.Context, owner string) (v1.Stats, error)
}

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
	Tokens        Tokens
}
