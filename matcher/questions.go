package matcher

import (
	"context"
	"errors"
	"iter"

	"github.com/google/uuid"
	"github.com/quay/claircore"

	"tocsin.dev/tocsin/schemas"
)

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
