package clair

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/google/uuid"
)

func (s *server) notification(w http.ResponseWriter, r *http.Request) {
	contentType, ok := negotiate(w, r, typeNotification, typeJSON)
	if !ok {
		return
	}
	id, err := uuid.Parse(r.PathValue("id"))
	if err != nil {
		fail(w, http.StatusBadRequest, fmt.Errorf("malformed path: %w", err))
		return
	}
	size := defaultPage
	if q := r.URL.Query().Get("page_size"); q != "" {
		if size, err = strconv.Atoi(q); err != nil || size < 1 || size > maxPage {
			fail(w, http.StatusBadRequest, fmt.Errorf("page_size is a number from 1 to %d", maxPage))
			return
		}
	}
	var after uuid.UUID
	if q := r.URL.Query().Get("next"); q != "" {
		if after, err = uuid.Parse(q); err != nil {
			fail(w, http.StatusBadRequest, fmt.Errorf("next: %w", err))
			return
		}
	}
	list, more, err := s.Notifications.Page(r.Context(), id, after, size)
	if err != nil {
		s.broke(w, r, err)
		return
	}
	out := notificationPage{Notifications: notNil(list)}
	if more {
		out.Page.Next = &list[len(list)-1].ID
	}
	out.Page.Size = len(out.Notifications)
	answer(w, r, http.StatusOK, contentType, out)
}

func (s *server) deleteNotification(w http.ResponseWriter, r *http.Request) {
	id, err := uuid.Parse(r.PathValue("id"))
	if err != nil {
		fail(w, http.StatusBadRequest, fmt.Errorf("malformed path: %w", err))
		return
	}
	owner, _ := r.Context().Value(ownerKey{}).(string)
	err = s.Notifications.Delete(r.Context(), owner, id)
	switch {
	case errors.Is(err, ErrNotFound):
		fail(w, http.StatusNotFound, fmt.Errorf("no notification %q", id))
	case err != nil:
		s.broke(w, r, err)
	default:
		w.WriteHeader(http.StatusOK)
	}
}
