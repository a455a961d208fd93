package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"tocsin.dev/tocsin/internal/access"
)

var discard = slog.New(slog.DiscardHandler)

// problem answers an RFC 9457 problem outside the API's own operations.
func problem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(huma.ErrorModel{Title: http.StatusText(status), Status: status, Detail: detail}) // the client may have gone
}

// answer turns a service's error into a problem. What is not for the client is
// logged and answered in general words.
func (s *server) answer(err error) error {
	if err == nil {
		return nil
	}
	var details []error
	for _, e := range fieldErrors(err) {
		details = append(details, &huma.ErrorDetail{Message: e.Message, Location: location(e.Field), Value: e.Value})
	}
	switch {
	case len(details) > 0:
		return huma.NewError(http.StatusUnprocessableEntity, "the request can't be accepted as it is", details...)
	case errors.Is(err, ErrNotFound), errors.Is(err, access.ErrNotFound):
		return huma.NewError(http.StatusNotFound, err.Error())
	case errors.Is(err, ErrConflict):
		return huma.NewError(http.StatusConflict, err.Error())
	case errors.Is(err, ErrTooLarge):
		return huma.NewError(http.StatusRequestEntityTooLarge, err.Error())
	case errors.Is(err, ErrUnavailable):
		return huma.NewError(http.StatusServiceUnavailable, err.Error())
	}
	if errors.Is(err, context.Canceled) { // the client has gone, or we are stopping
		return huma.NewError(http.StatusServiceUnavailable, "the request was given up")
	}
	s.Log.Error("api request failed", "error", err)
	return huma.NewError(http.StatusInternalServerError, "something went wrong on the server; its log says more")
}

// location is a field's path as all problems write it: body.filters[0].sql.
func location(field string) string {
	if !strings.HasPrefix(field, "/") {
		return strings.TrimSuffix("body."+field, ".")
	}
	out := "body"
	for part := range strings.SplitSeq(field[1:], "/") {
		part = strings.NewReplacer("~1", "/", "~0", "~").Replace(part)
		if _, err := strconv.Atoi(part); err == nil {
			out += "[" + part + "]"
		} else {
			out += "." + part
		}
	}
	return out
}

// fieldErrors finds every *FieldError in an error tree.
func fieldErrors(err error) []*FieldError {
	if e, ok := err.(*FieldError); ok {
		return []*FieldError{e}
	}
	switch u := err.(type) {
	case interface{ Unwrap() []error }:
		var out []*FieldError
		for _, e := range u.Unwrap() {
			out = append(out, fieldErrors(e)...)
		}
		return out
	case interface{ Unwrap() error }:
		return fieldErrors(u.Unwrap())
	}
	return nil
}

// echoed is the longest value that a problem echoes.
const echoed = 200

// redact takes secrets and long values out of the values that problems echo.
func redact(_ huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	for _, d := range m.Errors {
		switch value := d.Value.(type) {
		case string:
			if len(value) > echoed {
				d.Value = value[:echoed] + "…"
			}
		case map[string]any, []any: // may hold anything, secrets among it
			d.Value = nil
		}
		if secretLocation(d.Location) {
			d.Value = nil
		}
		d.Message = strings.ToValidUTF8(d.Message, "")
	}
	return m, nil
}

func secretLocation(location string) bool {
	l := strings.ToLower(location)
	for _, word := range []string{"secret", "credential", "token", "password", "header", "key", "sink", "uri", "failover"} {
		if strings.Contains(l, word) {
			return true
		}
	}
	return false
}

// absent answers for a service that is nil.
func absent(what string) error {
	return huma.NewError(http.StatusServiceUnavailable, fmt.Sprintf("%s can't be reached from this process", what))
}
