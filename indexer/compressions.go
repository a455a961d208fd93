package indexer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// One image may be there in several compressions, each a manifest with a digest
// of its own: as a registry's index has them, or pushed again by another tool.
// What their layers unpack to tells that they are one. They share their names,
// and what changes about the image is told once.

const (
	noteContent = `
INSERT INTO tocsin.layer_content (layer_id, diff_id)
SELECT l.id, d.diff FROM unnest(@layers::text[], @diffs::text[]) AS d(layer, diff) JOIN public.layer l ON l.hash = d.layer
ON CONFLICT (layer_id) DO NOTHING`

	contentOfLayers = `
SELECT l.hash, c.diff_id FROM public.layer l JOIN tocsin.layer_content c ON c.layer_id = l.id WHERE l.hash = ANY(@layers)`

	lockImage = `SELECT pg_advisory_xact_lock(hashtextextended(@image, 4))`

	setImage = `UPDATE tocsin.manifest SET image = @image WHERE id = @id AND image <> @image`

	// Rows are locked in the order of their ids, by whoever locks several.
	lockTwins = `SELECT id FROM tocsin.manifest WHERE image = @image ORDER BY id FOR UPDATE`

	markTwins = `UPDATE tocsin.manifest SET twinned = true WHERE id = ANY(@ids) AND NOT twinned`

	selectTwins = `
SELECT m.id, m.digest, n.names FROM tocsin.manifest m JOIN tocsin.naming n ON n.id = m.naming_id
WHERE m.id = @id OR m.id IN (SELECT twin_id FROM tocsin.twin WHERE manifest_id = @id) ORDER BY m.id`

	lockNaming = `
SELECT n.names, n.labels, n.also FROM tocsin.manifest m JOIN tocsin.naming n ON n.id = m.naming_id
WHERE m.id = @id AND m.state NOT IN ('deleted', 'retired') FOR UPDATE OF m`
)

// unpacked notes what a layer unpacks to.
func (a *attempt) unpacked(layer, diff string) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.diffs == nil {
		a.diffs = map[string]string{}
	}
	a.diffs[layer] = diff
}

// noteContent writes down what the layers that an attempt fetched unpack to.
func (s *store) noteContent(ctx context.Context, a *attempt) error {
	a.mu.Lock()
	layers, diffs := make([]string, 0, len(a.diffs)), make([]string, 0, len(a.diffs))
	for l, d := range a.diffs {
		layers, diffs = append(layers, l), append(diffs, d)
	}
	a.mu.Unlock()
	if len(layers) == 0 {
		return nil
	}
	if _, err := s.pool.Exec(ctx, noteContent, pgx.NamedArgs{"layers": layers, "diffs": diffs}); err != nil {
		return fmt.Errorf("note what layers unpack to: %w", err)
	}
	return nil
}

// identify notes what image a manifest is, and which others are the same, if all
// of its layers have been unpacked since that is noted.
func (s *store) identify(ctx context.Context, id int32, sp spec) error {
	layers := make([]string, len(sp.Layers))
	for i, l := range sp.Layers {
		layers[i] = l.Hash
	}
	rows, err := s.pool.Query(ctx, contentOfLayers, pgx.NamedArgs{"layers": layers})
	if err != nil {
		return fmt.Errorf("identify the image: %w", err)
	}
	diffs := map[string]string{}
	var layer, diff string
	if _, err := pgx.ForEachRow(rows, []any{&layer, &diff}, func() error { diffs[layer] = diff; return nil }); err != nil {
		return fmt.Errorf("identify the image: %w", err)
	}
	sum := sha256.New()
	for _, l := range layers {
		if diffs[l] == "" {
			return nil
		}
		fmt.Fprintln(sum, diffs[l])
	}
	image := hex.EncodeToString(sum.Sum(nil))
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockImage, pgx.NamedArgs{"image": image}); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, setImage, pgx.NamedArgs{"id": id, "image": image}); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, lockTwins, pgx.NamedArgs{"image": image})
		if err != nil {
			return err
		}
		ids, err := pgx.CollectRows(rows, pgx.RowTo[int32])
		if err != nil || len(ids) < 2 {
			return err
		}
		_, err = tx.Exec(ctx, markTwins, pgx.NamedArgs{"ids": ids})
		return err
	})
	if err != nil {
		return fmt.Errorf("identify the image: %w", err)
	}
	return nil
}

// share gives all compressions of an image the names that one has, so that what
// is told of one is told to whoever asks for any. Each is a transaction of its
// own: two that hold each other's row would wait for ever.
func (s *store) share(ctx context.Context, id int32) error {
	rows, err := s.pool.Query(ctx, selectTwins, pgx.NamedArgs{"id": id})
	if err != nil {
		return fmt.Errorf("share names: %w", err)
	}
	type twin struct {
		ID     int32
		Digest string
		Names  []string
	}
	twins, err := pgx.CollectRows(rows, pgx.RowToStructByPos[twin])
	if err != nil {
		return fmt.Errorf("share names: %w", err)
	}
	if len(twins) < 2 {
		return nil
	}
	for _, t := range twins {
		err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			var names, also []string
			var labels map[string]string
			rows, err := tx.Query(ctx, lockNaming, pgx.NamedArgs{"id": t.ID})
			if err != nil {
				return err
			}
			n, err := pgx.ForEachRow(rows, []any{&names, &labels, &also}, func() error { return nil })
			if err != nil || n.RowsAffected() == 0 {
				return err
			}
			shared, others := slices.Clone(names), []string{}
			for _, o := range twins {
				if o.ID == t.ID {
					continue
				}
				others = append(others, o.Digest)
				for _, name := range o.Names {
					// What it has of its own stays, however many there are.
					if len(shared) < maxNames && !slices.Contains(shared, name) {
						shared = append(shared, name)
					}
				}
			}
			slices.Sort(others)
			if slices.Equal(shared, names) && slices.Equal(others, also) {
				return nil
			}
			return s.name(ctx, tx, t.ID, shared, labels, others)
		})
		if err != nil {
			return fmt.Errorf("share names: %w", err)
		}
	}
	return nil
}
