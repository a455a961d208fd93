package indexer

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/robfig/cron/v3"

	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/internal/text"
)

// Follow is an image whose tag, or tags, are asked for on a schedule.
type Follow struct {
	ID uuid.UUID
	// Image is a reference; in its tag *, ? and [a-z] are as in a shell.
	Image     string
	Platforms []string
	// Schedule is a cron specification: five fields in UTC, @hourly, @every 6h.
	Schedule string
	NextAt   time.Time
	// LookedAt is when it was last asked for, Images how many tags there were.
	LookedAt *time.Time
	Images   int
	// Reason says why the last look failed; "" if it did not.
	Reason    string
	CreatedAt time.Time
}

const (
	// DefaultFollow is the schedule of a follow that has none.
	DefaultFollow = "@every 1h"
	// leastFollow is the shortest time between two looks.
	leastFollow = time.Minute
	// maxFollows and maxMatches bound what may be followed, and what a pattern may
	// match.
	maxFollows = 10_000
	maxMatches = 500
	// followLease is how long a look may take before another replica takes it over.
	followLease = 10 * time.Minute
)

var followParser = cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)

const (
	countFollows = `SELECT count(*) FROM tocsin.follow`
	insertFollow = `
INSERT INTO tocsin.follow (image, platforms, schedule) VALUES (@image, @platforms, @schedule)
ON CONFLICT (image) DO UPDATE SET platforms = excluded.platforms, schedule = excluded.schedule, next_at = now()
RETURNING id, image, platforms, schedule, next_at, looked_at, images, reason, created_at`
	listFollows = `
SELECT id, image, platforms, schedule, next_at, looked_at, images, reason, created_at FROM tocsin.follow ORDER BY image`
	deleteFollow = `DELETE FROM tocsin.follow WHERE id::text = @key OR image = @key`

	takeFollow = `
UPDATE tocsin.follow SET next_at = now() + @lease::interval
WHERE id = (SELECT id FROM tocsin.follow WHERE next_at <= now() ORDER BY next_at LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id, image, platforms, schedule, next_at, looked_at, images, reason, created_at`
	doneFollow = `
UPDATE tocsin.follow SET next_at = @next, looked_at = now(), images = @images, reason = @reason WHERE id = @id`
)

// AddFollow follows an image from now on; one that is followed gets the new
// schedule. Errors: [*InvalidError].
func (ix *Indexer) AddFollow(ctx context.Context, f Follow) (Follow, error) {
	if f.Schedule == "" {
		f.Schedule = DefaultFollow
	}
	var p problems
	f.Image = strings.TrimSpace(f.Image)
	if _, err := followSchedule(f.Schedule); err != nil {
		p.add("schedule", "%s", err)
	}
	sample := f.Image
	if repository, pattern, ok := tagPattern(f.Image); ok {
		if _, err := path.Match(pattern, ""); err != nil {
			p.add("image", "has a tag that is no pattern")
		}
		sample = repository + ":tag"
	} else if strings.ContainsAny(f.Image, "*?[") {
		p.add("image", "may have * in its tag alone, as in registry.example/team/app:1.*")
	}
	if strings.Contains(f.Image, "@") {
		p.add("image", "names a digest, which never stands for anything else")
	} else if err := ix.registry.Check(sample, f.Platforms); err != nil {
		p.add("image", "%s", err)
	}
	if err := errors.Join(p.errs...); err != nil {
		return Follow{}, err
	}
	var n int
	if err := ix.opts.Pool.QueryRow(ctx, countFollows).Scan(&n); err != nil {
		return Follow{}, fmt.Errorf("follow %s: %w", f.Image, err)
	}
	if n >= maxFollows {
		return Follow{}, &InvalidError{Field: "image", Reason: fmt.Sprintf("%d images are followed, which is the limit", n)}
	}
	if f.Platforms == nil {
		f.Platforms = []string{}
	}
	rows, err := ix.opts.Pool.Query(ctx, insertFollow, pgx.NamedArgs{"image": f.Image, "platforms": f.Platforms, "schedule": f.Schedule})
	if err == nil {
		f, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Follow])
	}
	if err != nil {
		return Follow{}, fmt.Errorf("follow %s: %w", f.Image, err)
	}
	return f, nil
}

// Follows are all that is followed, by image.
func (ix *Indexer) Follows(ctx context.Context) ([]Follow, error) {
	rows, err := ix.opts.Pool.Query(ctx, listFollows)
	if err != nil {
		return nil, fmt.Errorf("list follows: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Follow])
}

// RemoveFollow ends a follow, by its id or its image. What it has brought stays.
// One that there is not is [problem.NotFound].
func (ix *Indexer) RemoveFollow(ctx context.Context, key string) error {
	tag, err := ix.opts.Pool.Exec(ctx, deleteFollow, pgx.NamedArgs{"key": key})
	if err != nil {
		return fmt.Errorf("remove follow: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return problem.New(problem.NotFound, "%s is not followed", text.Clip(text.Clean(key), 100))
	}
	return nil
}

func followSchedule(spec string) (cron.Schedule, error) {
	s, err := followParser.Parse(spec)
	if err != nil {
		return nil, fmt.Errorf(`%q is no schedule (want "@every 6h", "@hourly", or five cron fields in UTC like "30 3 * * *")`, text.Clip(spec, 60))
	}
	first := s.Next(time.Unix(0, 0).UTC())
	if first.IsZero() {
		return nil, fmt.Errorf("%q never comes", text.Clip(spec, 60))
	}
	if s.Next(first).Sub(first) < leastFollow {
		return nil, fmt.Errorf("%q is more often than once a minute", text.Clip(spec, 60))
	}
	return s, nil
}

// tagPattern splits an image whose tag is a pattern.
func tagPattern(image string) (repository, pattern string, ok bool) {
	i := strings.LastIndexByte(image, ':')
	if i <= strings.LastIndexByte(image, '/') || !strings.ContainsAny(image[i+1:], "*?[") {
		return "", "", false
	}
	return image[:i], image[i+1:], !strings.ContainsAny(image[:i], "*?[")
}

// followAll looks for what is due, until ctx ends.
func (ix *Indexer) followAll(ctx context.Context) error {
	tick := time.NewTicker(ix.opts.MaintainEvery)
	defer tick.Stop()
	for {
		for {
			due, err := ix.followDue(ctx)
			if err != nil && ctx.Err() == nil {
				ix.log.WarnContext(ctx, "tags that are followed could not be looked up; trying again", "error", err)
			}
			if !due || err != nil {
				break
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// followDue looks for the tags of one follow, and reports whether one was due.
func (ix *Indexer) followDue(ctx context.Context) (bool, error) {
	rows, err := ix.opts.Pool.Query(ctx, takeFollow, pgx.NamedArgs{"lease": followLease})
	if err != nil {
		return false, err
	}
	f, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Follow])
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	next := time.Now().Add(time.Hour)
	if s, err := followSchedule(f.Schedule); err == nil {
		next = s.Next(time.Now().UTC())
	}
	n, err := ix.look(ctx, f)
	if ctx.Err() != nil {
		return false, ctx.Err() // the lease ends, and another replica looks
	}
	args := pgx.NamedArgs{"id": f.ID, "next": next, "images": n, "reason": ""}
	if err != nil {
		args["reason"] = text.Clip(text.Clean(err.Error()), 500)
	}
	_, err = ix.opts.Pool.Exec(ctx, doneFollow, args)
	return true, err
}

// look submits a job for every tag, which asks what it stands for now.
func (ix *Indexer) look(ctx context.Context, f Follow) (int, error) {
	images := []string{f.Image}
	if repository, pattern, ok := tagPattern(f.Image); ok {
		bounded, cancel := context.WithTimeout(ctx, ix.limits.ResolveTimeout)
		tags, err := ix.registry.Tags(bounded, repository)
		cancel()
		if err != nil {
			return 0, err
		}
		images = images[:0]
		for _, t := range tags {
			if ok, err := path.Match(pattern, t); err == nil && ok {
				images = append(images, repository+":"+t)
			}
		}
		if len(images) > maxMatches {
			return len(images), fmt.Errorf("%d tags match, more than %d: narrow the pattern", len(images), maxMatches)
		}
	}
	for _, image := range images {
		if _, err := ix.Enqueue(ctx, Request{Image: image, Platforms: f.Platforms}); err != nil {
			return 0, err
		}
	}
	return len(images), nil
}
