package api

import (
	"context"

	"tocsin.dev/tocsin/indexer"
	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
)

// follows answers httpapi.Follows with the indexer.
type follows struct{ ix *indexer.Indexer }

func (s follows) Follow(ctx context.Context, r v1.FollowRequest) (v1.Follow, error) {
	f, err := s.ix.AddFollow(ctx, indexer.Follow{Image: r.Image, Schedule: r.Schedule, Platforms: r.Platforms})
	if err != nil {
		return v1.Follow{}, indexerError(err)
	}
	return toFollow(f), nil
}

func (s follows) Followed(ctx context.Context) ([]v1.Follow, error) {
	list, err := s.ix.Follows(ctx)
	out := make([]v1.Follow, len(list))
	for i, f := range list {
		out[i] = toFollow(f)
	}
	return out, err
}

func (s follows) Unfollow(ctx context.Context, key string) error { return s.ix.RemoveFollow(ctx, key) }

func toFollow(f indexer.Follow) v1.Follow {
	return v1.Follow{
		ID: f.ID.String(), Image: f.Image, Schedule: f.Schedule, Platforms: f.Platforms, NextAt: f.NextAt, LookedAt: f.LookedAt,
		Images: f.Images, Reason: f.Reason, CreatedAt: f.CreatedAt,
	}
}
