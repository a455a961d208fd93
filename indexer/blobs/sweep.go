package blobs

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Need says how much a blob is needed.
type Need int

const (
	// Unused blobs are removed once nobody has used them for an hour.
	Unused Need = iota
	// Reindex blobs serve a later re-index of an image; they are removed, the
	// least recently used first, while the store is over its limit.
	Reindex
	// Pending blobs are waited for and never removed.
	Pending
)

// Sweep removes the blobs that are not needed. The function need is called with
// all digests at once and returns how much each is needed; those it leaves out
// are [Unused]. It returns how many blobs were removed.
func (s *Store) Sweep(ctx context.Context, need func(context.Context, []string) (map[string]Need, error)) (int, error) {
	if err := s.sweepPartial(); err != nil {
		return 0, err
	}
	all, err := s.list()
	if err != nil {
		return 0, err
	}
	removed, err := sweep(ctx, all, s.opts.MaxTotal, need, func(d string) error {
		path, _, err := s.path(d)
		if err != nil {
			return err
		}
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			return err
		}
		return nil
	})
	if err != nil || s.opts.Shared == nil {
		return removed, err
	}
	// Every replica sweeps what all of them share: the database says what is needed.
	if all, err = s.opts.Shared.List(ctx); err != nil {
		return removed, fmt.Errorf("shared blobs: %w", err)
	}
	n, err := sweep(ctx, all, s.opts.MaxShared, need, func(d string) error { return s.opts.Shared.Remove(ctx, d) })
	return removed + n, err
}

// sweep removes of all what is not needed, and, while they are more than maxTotal
// bytes, what is needed least.
func sweep(ctx context.Context, all []Blob, maxTotal int64, need func(context.Context, []string) (map[string]Need, error), remove func(string) error) (int, error) {
	if len(all) == 0 {
		return 0, nil
	}
	digests := make([]string, len(all))
	var total int64
	for i, b := range all {
		digests[i] = b.Digest
		total += b.Size
	}
	needs, err := need(ctx, digests)
	if err != nil {
		return 0, fmt.Errorf("blob sweep: %w", err)
	}
	slices.SortFunc(all, func(a, b Blob) int {
		if n, m := needs[a.Digest], needs[b.Digest]; n != m {
			return int(n - m)
		}
		return a.LastUsed.Compare(b.LastUsed)
	})
	removed := 0
	for _, b := range all {
		n := needs[b.Digest]
		stale := time.Since(b.LastUsed) > grace
		if !(n == Unused && stale) && !(n == Reindex && stale && total > maxTotal) {
			continue
		}
		if err := remove(b.Digest); err != nil {
			return removed, fmt.Errorf("blob sweep: %w", err)
		}
		total -= b.Size
		removed++
	}
	return removed, nil
}

func (s *Store) list() ([]Blob, error) {
	var out []Blob
	for _, algo := range []string{"sha256", "sha512"} {
		entries, err := os.ReadDir(filepath.Join(s.dir, algo))
		if err != nil {
			return nil, fmt.Errorf("blob store: %w", err)
		}
		for _, entry := range entries {
			fi, err := entry.Info()
			if err != nil {
				continue // removed meanwhile
			}
			if _, _, err := s.path(algo + ":" + entry.Name()); err != nil {
				continue // not ours
			}
			out = append(out, Blob{Digest: algo + ":" + entry.Name(), Size: fi.Size(), LastUsed: fi.ModTime()})
		}
	}
	return out, nil
}

// sweepPartial removes what interrupted uploads left. One that is under way
// writes more often than the grace lasts, since every connection has a timeout.
func (s *Store) sweepPartial() error {
	dir := filepath.Join(s.dir, "partial")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("blob sweep: %w", err)
	}
	for _, e := range entries {
		fi, err := e.Info()
		if err != nil || time.Since(fi.ModTime()) < grace {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("blob sweep: %w", err)
		}
	}
	return nil
}
