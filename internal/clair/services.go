package clair

import (
	"context"
	"errors"
	"net/http"

	"github.com/google/uuid"
	"github.com/quay/claircore"
	"github.com/quay/claircore/libvuln/driver"
)

// ErrNotFound is what a service returns for a thing that is not there.
var ErrNotFound = errors.New("not found")

// ErrBadManifest is what [Indexer] returns, wrapped, for a manifest that can't
// be indexed through its own fault, as with a layer that is not a tar archive.
// It is answered as 400.
var ErrBadManifest = errors.New("bad manifest")

// ErrInUse is what [Matcher] returns for an update operation that can't be
// deleted because events of it are still to be written. It is answered as 409.
var ErrInUse = errors.New("still in use")

// Indexer is the indexing half of Clair. [libindex.Libindex] has these methods;
// Tocsin's indexer wraps them to know the manifests as well.
//
// [libindex.Libindex]: https://pkg.go.dev/github.com/quay/claircore/libindex#Libindex
type Indexer interface {
	// Index blocks until the manifest is indexed, and records it. A report with
	// an error inside comes with a nil error only if it was persisted.
	Index(context.Context, *claircore.Manifest) (*claircore.IndexReport, error)
	State(context.Context) (string, error)
	IndexReport(context.Context, claircore.Digest) (*claircore.IndexReport, bool, error)
	DeleteManifests(context.Context, ...claircore.Digest) ([]claircore.Digest, error)
	AffectedManifests(context.Context, []claircore.Vulnerability) (*claircore.AffectedManifests, error)
}

// Matcher is the matching half of Clair. [libvuln.Libvuln] has these methods.
//
// [libvuln.Libvuln]: https://pkg.go.dev/github.com/quay/claircore/libvuln#Libvuln
type Matcher interface {
	Scan(context.Context, *claircore.IndexReport) (*claircore.VulnerabilityReport, error)
	Initialized(context.Context) (bool, error)
	UpdateOperations(context.Context, driver.UpdateKind, ...string) (map[string][]driver.UpdateOperation, error)
	LatestUpdateOperations(context.Context, driver.UpdateKind) (map[string][]driver.UpdateOperation, error)
	// LatestUpdateOperation is uuid.Nil before the first update.
	LatestUpdateOperation(context.Context, driver.UpdateKind) (uuid.UUID, error)
	DeleteUpdateOperations(context.Context, ...uuid.UUID) (int64, error)
	UpdateDiff(ctx context.Context, prev, cur uuid.UUID) (*driver.UpdateDiff, error)
}

// Notifications are Clair's notifications: one list for each update that
// touched a manifest.
type Notifications interface {
	// Page returns up to limit notifications after the given one (uuid.Nil for
	// the first page) and whether there are more. An unknown notification has
	// none.
	Page(ctx context.Context, id, after uuid.UUID, limit int) (page []Notification, more bool, err error)
	// Delete says that the client has read it. It is [ErrNotFound] if there is
	// no such notification, or not any more, or if it is of another owner's
	// subscription; an empty owner may delete all.
	Delete(ctx context.Context, owner string, id uuid.UUID) error
}

// Authenticator decides whether a request may go on. It returns the status to
// answer, 0 to go on, and whose notifications the client may delete: those of
// subscriptions of an owner, all if that is empty.
type Authenticator func(*http.Request) (owner string, status int)
