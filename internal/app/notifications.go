package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"tocsin.dev/tocsin/internal/clairapi"
	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/notifier"
)

// notifications answers clairapi.Notifications with the notifier's digests.
type notifications struct{ log *notifier.Notifier }

func (s notifications) Page(ctx context.Context, id, after uuid.UUID, limit int) ([]clairapi.Notification, error) {
	next := ""
	if after != uuid.Nil {
		next = after.String()
	}
	page, err := s.log.Notification(ctx, id, limit, next)
	if err != nil {
		return nil, err
	}
	// Both sides are Clair's JSON, each in types of its own.
	b, err := json.Marshal(page.Notifications)
	if err != nil {
		return nil, err
	}
	var out []clairapi.Notification
	if err := json.Unmarshal(b, &out); err != nil {
		return nil, fmt.Errorf("notification %s: %w", id, err)
	}
	return out, nil
}

func (s notifications) Delete(ctx context.Context, id uuid.UUID) error {
	err := s.log.DeleteNotification(ctx, id)
	if errors.Is(err, problem.NotFound) {
		return refused(clairapi.ErrNotFound, err)
	}
	return err
}
