package matcher

import (
	"context"
	"errors"
	"iter"

	"github.com/google/uuid"
	"github.com/quay/claircore"

	"tocsin.dev/tocsin/schemas"
)

// Manifest is what the indexer knows of a manifest whose index report it hands
// over.
type Manifest struct {
	ID           int32
	Digest       string
	Names        []string
	Labels       map[string]string
	NamingID     int64
	IndexerState string
	Reindexed    bool
	Warnings     []string
	// Force announces the manifest even if nothing about it is new.
	Force bool
}

// Indexed records what a manifest holds and announces it.
func (e *Engine) Indexed(ctx context.Context, m Manifest, report *claircore.IndexReport) error {
	return errors.ErrUnsupported
}

// Forget takes a manifest's inventory out of what later updates are held
// against.
func (e *Engine) Forget(ctx context.Context, manifestID int32) error {
	return errors.ErrUnsupported
}

// ProcessUpdates works through every update operation that is newer than its
// updater's cursor, oldest first, and returns when there is none left. An
// updater that fails does not keep the others; the errors come joined.
func (e *Engine) ProcessUpdates(ctx context.Context) error { return errors.ErrUnsupported }

// Run processes updates and collects garbage until ctx ends.
func (e *Engine) Run(ctx context.Context) error { return errors.ErrUnsupported }

// CollectGarbage deletes update operations that no cursor needs any more, and
// what nothing refers to afterwards.
func (e *Engine) CollectGarbage(ctx context.Context) error { return errors.ErrUnsupported }

// Report is the vulnerability report of a manifest: libvuln's Scan with the
// two mends of [Store] and [Lenient].
type Report struct {
	*claircore.VulnerabilityReport
	Skipped *Skips
}

// Report scans the stored index report of a manifest.
func (e *Engine) Report(ctx context.Context, digest claircore.Digest) (*Report, error) {
	return nil, errors.ErrUnsupported
}

// Page asks for Limit items after the cursor that an earlier page returned.
type Page struct {
	Cursor string
	Limit  int
}

// Affected is one manifest that has a vulnerability now.
type Affected struct {
	Manifest schemas.Manifest
	Findings []schemas.Finding
}

// Affected lists the current manifests that have the vulnerability id, or one
// that it is an alias of, and says through which packages.
func (e *Engine) Affected(ctx context.Context, id string, p Page) (items []Affected, next string, err error) {
	return nil, "", errors.ErrUnsupported
}

// ManifestDiff is what lies between two update operations for one manifest.
type ManifestDiff struct {
	Manifest schemas.Manifest
	Added    []schemas.Finding
	Removed  []schemas.Finding
	Revised  []schemas.RevisedFinding
}

// Diff streams what lies between two update operations of one updater, for the
// manifests as they are now.
func (e *Engine) Diff(ctx context.Context, prev, cur uuid.UUID) iter.Seq2[ManifestDiff, error] {
	return func(yield func(ManifestDiff, error) bool) { yield(ManifestDiff{}, errors.ErrUnsupported) }
}

// RenderChanges renders the data of events, most severe findings first, each
// cut to about limit bytes of JSON; no limit if it is 0.
func (e *Engine) RenderChanges(ctx context.Context, keys []schemas.ChangeKey, limit int) ([]schemas.VulnerabilitiesChanged, error) {
	return nil, errors.ErrUnsupported
}
