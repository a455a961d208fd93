package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/internal/text"
)

var discard = slog.New(slog.DiscardHandler)

// writeProblem answers an RFC 9457 problem outside the API's own operations.
func writeProblem(w http.ResponseWriter, status int, detail string) {
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
	kind := problem.KindOf(err)
	if status, ok := statuses[kind]; ok {
		return huma.NewError(status, err.Error())
	}
	if kind == problem.Invalid {
		var details []error
		detail := "the request can't be accepted as it is"
		for _, f := range problem.Fields(err) {
			details = append(details, &huma.ErrorDetail{Message: f.Text(), Location: location(f.Field), Value: f.Value})
		}
		if len(details) == 0 {
			detail = err.Error()
		}
		return huma.NewError(http.StatusUnprocessableEntity, detail, details...)
	}
	if errors.Is(err, context.Canceled) { // the client has gone, or we are stopping
		return huma.NewError(http.StatusServiceUnavailable, "the request was given up")
	}
	s.Log.Error("api request failed", "error", err)
	return huma.NewError(http.StatusInternalServerError, "something went wrong on the server; its log says more")
}

// statuses are the HTTP statuses of the kinds of problems; Invalid, which lists
// fields, is answered apart.
var statuses = map[problem.Kind]int{
	problem.NotFound:    http.StatusNotFound,
	problem.Conflict:    http.StatusConflict,
	problem.TooLarge:    http.StatusRequestEntityTooLarge,
	problem.Unavailable: http.StatusServiceUnavailable,
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

// echoed is the longest value that a problem echoes, and mostErrors how many errors
// it lists.
const (
	echoed     = 200
	mostErrors = 10
)

// redact takes secrets and long values out of the values that problems echo.
func redact(_ huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	if more := len(m.Errors) - mostErrors; more > 0 {
		m.Errors = append(slices.Clone(m.Errors[:mostErrors]), &huma.ErrorDetail{Message: fmt.Sprintf("and %d more", more)})
	}
	for _, d := range m.Errors {
		hint(d)
		switch value := d.Value.(type) {
		case string:
			d.Value = text.Clip(text.Redact(value), echoed)
		case map[string]any, []any: // may hold anything, secrets among it
			d.Value = nil
		}
		if secretLocation(d.Location) {
			d.Value = nil
		}
		d.Message = text.Redact(strings.ToValidUTF8(d.Message, ""))
	}
	return m, nil
}

// oneOf is how huma says that a value is none of those there are.
const oneOf = `expected value to be one of "`

// hint adds the value that was most likely meant to a problem with one that is
// none of a few.
func hint(d *huma.ErrorDetail) {
	value, ok := d.Value.(string)
	list, is := strings.CutPrefix(d.Message, oneOf)
	if !ok || !is {
		return
	}
	if mean := text.DidYouMean(value, strings.Split(strings.TrimSuffix(list, `"`), ", ")); mean != "" {
		d.Message += " (" + mean + ")"
	}
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
