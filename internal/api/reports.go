package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/quay/claircore"

	"tocsin.dev/tocsin/indexer"
	"tocsin.dev/tocsin/internal/httpapi"
	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/matcher"
	"tocsin.dev/tocsin/schemas"
)

// reports answers httpapi.Reports with the matcher, and with the indexer for
// what images are called.
type reports struct {
	ix     *indexer.Indexer
	engine *matcher.Engine
}

func (s reports) Report(ctx context.Context, ref string) (v1.Report, error) {
	image, err := s.ix.Get(ctx, ref)
	if err != nil {
		return v1.Report{}, indexerError(err)
	}
	digest, err := claircore.ParseDigest(image.Digest)
	if err != nil {
		return v1.Report{}, err
	}
	r, err := s.engine.Report(ctx, digest)
	if errors.Is(err, matcher.ErrUnknownManifest) {
		return v1.Report{}, fmt.Errorf("%w: image is %s and has no report yet; %s", httpapi.ErrConflict, image.State, cmp.Or(image.Reason, "wait until it is indexed"))
	}
	if err != nil {
		return v1.Report{}, err
	}
	out := v1.Report{
		Manifest: schemas.Manifest{Digest: image.Digest, Names: image.Names, Also: image.Also, Labels: image.Labels, Superseded: image.Superseded},
		Packages: len(r.Packages), Vulnerabilities: r.Findings(), Warnings: slices.Clone(image.Warnings),
		Coverage: r.Coverage.Degraded(image.Warnings),
	}
	for _, f := range out.Vulnerabilities {
		out.Counts.Add(schemas.SeverityRank(f.NormalizedSeverity), 1)
		if fixable(f.FixedInVersion) {
			out.Fixable++
		}
	}
	if n := r.Skipped.Count(); n > 0 {
		out.Warnings = append(out.Warnings, fmt.Sprintf("%d advisories could not be judged, as with a version that does not parse", n))
	}
	return out, nil
}

// fixable reports whether fixed_in_version names a version with the fix, as
// the function tocsin.fixable does for events: some feeds hold a query string
// there ("introduced=1&fixed=2").
func fixable(fixed string) bool {
	if strings.Contains(fixed, "fixed=") {
		return true
	}
	return fixed != "" && fixed != "0" && !strings.Contains(fixed, "introduced=") && !strings.Contains(fixed, "lastAffected=")
}

func (s reports) Affected(ctx context.Context, id string, p v1.Paging) (v1.Page[v1.AffectedImage], error) {
	found, next, err := s.engine.Affected(ctx, id, matcher.Page{Cursor: p.Cursor, Limit: p.Limit})
	if err != nil {
		return v1.Page[v1.AffectedImage]{}, questionError("id", id, err)
	}
	page := v1.Page[v1.AffectedImage]{Items: make([]v1.AffectedImage, len(found)), Next: next}
	for i, a := range found {
		page.Items[i] = v1.AffectedImage{Manifest: a.Manifest, Findings: a.Findings}
	}
	return page, nil
}

// Diff pages through the matcher's stream; the cursor is how many manifests
// came before.
func (s reports) Diff(ctx context.Context, prev, cur string, p v1.Paging) (v1.Page[v1.ImageDiff], error) {
	var page v1.Page[v1.ImageDiff]
	var refs [2]uuid.UUID
	for i, raw := range []string{prev, cur} {
		ref, err := uuid.Parse(raw)
		if err != nil {
			return page, &httpapi.FieldError{Field: []string{"prev", "cur"}[i], Message: "is not the UUID of an update operation; see `tocsin updaters status`", Value: raw}
		}
		refs[i] = ref
	}
	skip := 0
	if p.Cursor != "" {
		n, err := strconv.Atoi(p.Cursor)
		if err != nil || n < 0 {
			return page, badCursor(p.Cursor)
		}
		skip = n
	}
	page.Items = []v1.ImageDiff{}
	n := 0
	for d, err := range s.engine.Diff(ctx, refs[0], refs[1]) {
		if err != nil {
			return page, questionError("prev", prev, err)
		}
		if n++; n <= skip {
			continue
		}
		if p.Limit > 0 && len(page.Items) == p.Limit {
			page.Next = strconv.Itoa(n - 1)
			break
		}
		page.Items = append(page.Items, v1.ImageDiff{Manifest: d.Manifest, Added: d.Added, Removed: d.Removed, Revised: d.Revised})
	}
	return page, nil
}
