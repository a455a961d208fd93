package app

import (
	"strings"

	"tocsin.dev/tocsin/notifier"
)

// refusal is a domain's error that an API knows by its kind. It reads as the
// domain wrote it: the API says the kind by itself.
type refusal struct {
	kind, err error
}

func refused(kind, err error) error { return &refusal{kind, err} }

func (r *refusal) Error() string {
	return strings.TrimSuffix(r.err.Error(), ": "+notifier.ErrConflict.Error())
}

func (r *refusal) Unwrap() []error { return []error{r.kind, r.err} }
