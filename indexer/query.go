package indexer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/quay/claircore"
)

// Image is a manifest and what is known of it.
type Image struct {
	ID        int32
	Digest    string
	Reference string
	Names     []string
	Also      []string // digests of its other compressions
	Labels    map[string]string
	Platform  string // "os/arch[/variant]"; "" if nobody said
	Verified  bool   // a registry answered with it
	// Superseded says that names stood for it, and that none does any more.
	Superseded bool
	State      string
	// Reason says why indexing failed; of an indexed image, why indexing it
	// again did.
	Reason       string
	Packages     int
	Warnings     []string
	IndexerState string
	CreatedAt    time.Time
	IndexedAt    *time.Time // nil if it never was
}

// Filter selects images.
type Filter struct {
	// Name is a pattern over names: * stands for anything, slashes included,
	// and ? for one character. Empty selects all.
	Name string
	// State is one of the states; empty selects all but deleted and retired ones.
	State string
	// Before selects images older than the one with this id: the last of the
	// page before. Zero starts at the newest.
	Before int32
	// Limit is the size of the page: 50 if zero, at most 500.
	Limit int
}

const maxPage = 500

const imageColumns = `
SELECT m.id, m.digest, m.reference, n.names, n.also, n.labels, coalesce(n.labels ->> 'platform', ''), m.verified, s.manifest_id IS NOT NULL, m.state, m.reason, m.packages, m.warnings, m.indexer_state, m.created_at, m.indexed_at
FROM tocsin.manifest m JOIN tocsin.naming n ON n.id = m.naming_id
LEFT JOIN tocsin.superseded s ON s.manifest_id = m.id`

const listImages = imageColumns + `
WHERE (CASE WHEN @state = '' THEN m.state NOT IN ('deleted', 'retired') ELSE m.state = @state END)
  AND (@before = 0 OR m.id < @before)
  AND (@pattern = '' OR EXISTS (SELECT FROM unnest(n.names) AS name WHERE name LIKE @pattern))
ORDER BY m.id DESC LIMIT @limit`

// List returns the newest images that f selects, newest first.
func (ix *Indexer) List(ctx context.Context, f Filter) ([]Image, error) {
	if f.Limit <= 0 {
		f.Limit = 50
	}
	rows, err := ix.opts.Pool.Query(ctx, listImages, pgx.NamedArgs{
		"state": f.State, "before": f.Before, "pattern": likePattern(f.Name), "limit": min(f.Limit, maxPage),
	})
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	images, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Image])
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	return images, nil
}

// likePattern translates a shell pattern for LIKE.
func likePattern(glob string) string {
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`, `*`, `%`, `?`, `_`).Replace(glob)
}

const (
	imageByDigest = imageColumns + ` WHERE m.digest = @ref AND m.state <> 'deleted'`

	imagesByName = imageColumns + `
JOIN tocsin.name x ON x.manifest_id = m.id
WHERE x.name = @ref AND m.state <> 'deleted'
ORDER BY x.platform`
)

// Get is Lookup's first: of several platforms, one.
func (ix *Indexer) Get(ctx context.Context, ref string) (Image, error) {
	found, err := ix.Lookup(ctx, ref)
	if err != nil {
		return Image{}, err
	}
	return found[0], nil
}

// Find finds an image by digest, or those that a name stands for now: one for
// each platform of its newest naming. If there is none, the error is
// [ErrNotFound].
func (ix *Indexer) Find(ctx context.Context, ref string) ([]Image, error) {
	sql := imagesByName
	if digest, err := canonicalDigest(ref); err == nil {
		sql, ref = imageByDigest, digest
	}
	rows, err := ix.opts.Pool.Query(ctx, sql, pgx.NamedArgs{"ref": ref})
	if err != nil {
		return nil, fmt.Errorf("find image: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Image])
	if err != nil {
		return nil, fmt.Errorf("find image: %w", err)
	}
	if len(found) == 0 {
		return nil, ErrNotFound
	}
	return found, nil
}

const (
	// tagsOf are the names that are ref with a tag.
	tagsOf = `
SELECT DISTINCT name FROM tocsin.name
WHERE starts_with(name, @ref || ':') AND strpos(substr(name, length(@ref) + 2), '/') = 0
ORDER BY name LIMIT @limit`

	// maxTags is how many names are listed to choose from.
	maxTags = 10
)

// Lookup is Find for people: a name without its tag finds what its only tag
// stands for. If it has several, the error is [ErrNotFound] and lists them.
func (ix *Indexer) Lookup(ctx context.Context, ref string) ([]Image, error) {
	found, err := ix.Find(ctx, ref)
	// A colon after the last slash begins a tag; before it, a port.
	if !errors.Is(err, ErrNotFound) || ref == "" || strings.Contains(ref[strings.LastIndex(ref, "/")+1:], ":") {
		return found, err
	}
	rows, err := ix.opts.Pool.Query(ctx, tagsOf, pgx.NamedArgs{"ref": ref, "limit": maxTags + 1})
	if err != nil {
		return nil, fmt.Errorf("find image: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	switch {
	case err != nil:
		return nil, fmt.Errorf("find image: %w", err)
	case len(names) == 0:
		return nil, ErrNotFound
	case len(names) == 1:
		return ix.Find(ctx, names[0])
	case len(names) > maxTags:
		names[maxTags] = "…"
	}
	return nil, fmt.Errorf("%w called %s; say which of these: %s", ErrNotFound, ref, strings.Join(names, ", "))
}

// IndexReport returns claircore's report of a manifest, which says in State and
// Err how far a first index has come; ok is false if there is none.
func (ix *Indexer) IndexReport(ctx context.Context, digest claircore.Digest) (r *claircore.IndexReport, ok bool, err error) {
	r, ok, err = ix.lib.IndexReport(ctx, digest)
	if err != nil {
		return nil, false, fmt.Errorf("index report of %s: %w", digest, err)
	}
	return r, ok, nil
}
