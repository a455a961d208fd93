package httpapi

import (
	"context"
	"net/http"

	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
)

// Follows keeps the tags that are asked for on a schedule: package indexer.
type Follows interface {
	// Follow follows an image, or gives one that is followed another schedule.
	Follow(ctx context.Context, r v1.FollowRequest) (v1.Follow, error)
	Followed(ctx context.Context) ([]v1.Follow, error)
	// Unfollow ends a follow by its id or its image.
	Unfollow(ctx context.Context, key string) error
}

func (s *server) registerFollows() {
	guard := func() error {
		if s.Services.Follows == nil {
			return absent("the indexer")
		}
		return nil
	}
	add(s, get, "/follows", "List the tags that are followed", looks, 0, func(ctx context.Context, _ *struct{}) (*body[v1.Page[v1.Follow]], error) {
		if err := guard(); err != nil {
			return nil, err
		}
		list, err := s.Services.Follows.Followed(ctx)
		return &body[v1.Page[v1.Follow]]{v1.Page[v1.Follow]{Items: list}}, err
	})
	type followIn struct{ Body v1.FollowRequest }
	add(s, post, "/follows", "Follow a tag, or a pattern of tags", publishes, http.StatusCreated, func(ctx context.Context, in *followIn) (*body[v1.Follow], error) {
		if err := guard(); err != nil {
			return nil, err
		}
		f, err := s.Services.Follows.Follow(ctx, in.Body)
		note(ctx, in.Body.Image, map[string]any{"schedule": in.Body.Schedule})
		return &body[v1.Follow]{f}, err
	})
	add(s, http.MethodDelete, "/follows/{ref}", "Follow it no more, by id or image", publishes, http.StatusNoContent, func(ctx context.Context, in *ImageParam) (*struct{}, error) {
		if err := guard(); err != nil {
			return nil, err
		}
		return nil, s.Services.Follows.Unfollow(ctx, in.Ref)
	})
}
