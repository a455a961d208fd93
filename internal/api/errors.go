package api

import (
	"errors"
	"fmt"
	"strings"

	"tocsin.dev/tocsin/indexer"
	"tocsin.dev/tocsin/indexer/image"
	"tocsin.dev/tocsin/internal/httpapi"
	"tocsin.dev/tocsin/matcher"
)

// refusal is an error that an API knows by its kind. It reads as the package
// wrote it that returned it.
type refusal struct {
	kind, err error
}

func refused(kind, err error) error { return &refusal{kind, err} }

func (r *refusal) Error() string { return r.err.Error() }

func (r *refusal) Unwrap() []error { return []error{r.kind, r.err} }

// indexerError turns the indexer's errors into those the API knows.
func indexerError(err error) error {
	if err == nil {
		return nil
	}
	// The registry hasn't the image, or won't show it.
	if e, ok := errors.AsType[*image.Error](err); ok {
		return &httpapi.FieldError{Field: "image", Message: strings.TrimPrefix(e.Error(), fmt.Sprintf("image %q: ", e.Ref)), Value: e.Ref}
	}
	if invalid := indexer.Invalid(err); len(invalid) > 0 {
		var fields []error
		for _, f := range invalid {
			fields = append(fields, &httpapi.FieldError{Field: f.Field, Message: f.Reason})
		}
		return errors.Join(fields...)
	}
	switch {
	case errors.Is(err, indexer.ErrNotFound):
		return refused(httpapi.ErrNotFound, err)
	case errors.Is(err, indexer.ErrOtherLayers):
		return refused(httpapi.ErrConflict, err)
	}
	return err
}

// questionError turns the matcher's errors into those the API knows.
func questionError(field, value string, err error) error {
	switch {
	case errors.Is(err, matcher.ErrBadQuestion):
		return &httpapi.FieldError{Field: field, Message: err.Error(), Value: value}
	case errors.Is(err, matcher.ErrUnknownChange):
		return refused(httpapi.ErrNotFound, err)
	}
	return err
}

func badCursor(c string) error {
	return &httpapi.FieldError{Field: "cursor", Message: "is not one that a page answered as next", Value: c}
}
