// Package problem is the taxonomy of errors that a caller can do something
// about: a thing is not there, is in the wrong state, the request is wrong, too
// large, or something needed is away for now.
//
// Every package makes such errors with [New] or [Refuse], wraps them with %w as
// it likes, and translates nothing. What answers people, such as the HTTP API,
// asks [KindOf] once and maps the kind to its own status. An error without a
// kind is a fault of the server's own.
package problem

import (
	"errors"
	"fmt"
	"strings"
)

// Kind is what a caller can do about an error. A Kind is an error itself, so
// that errors.Is(err, problem.NotFound) asks for it.
type Kind string

// The kinds of problems.
const (
	NotFound    Kind = "not found"   // there is no such thing, or the caller may not see it
	Conflict    Kind = "conflict"    // it can't be done to the thing as it is now
	Invalid     Kind = "invalid"     // the request is wrong; [Fields] says where
	TooLarge    Kind = "too large"   // over a limit of size
	Unavailable Kind = "unavailable" // what it needs is away now and may be back later
)

// Error implements error.
func (k Kind) Error() string { return string(k) }

// Error is a problem of a kind. Its text is for people and does not repeat the
// kind; it never holds a secret.
type Error struct {
	kind   Kind
	text   string
	fields []Field
}

// New returns a problem of a kind. It serves as a sentinel too.
func New(kind Kind, format string, args ...any) error {
	return &Error{kind: kind, text: fmt.Sprintf(format, args...)}
}

// Refuse returns an Invalid problem with all that is wrong with a request; nil
// if fields is empty.
func Refuse(fields ...Field) error {
	if len(fields) == 0 {
		return nil
	}
	return &Error{kind: Invalid, fields: fields}
}

func (e *Error) Error() string {
	if len(e.fields) == 0 {
		return e.text
	}
	parts := make([]string, len(e.fields))
	for i, f := range e.fields {
		parts[i] = f.Error()
	}
	return "refused: " + strings.Join(parts, "; ")
}

// Is reports whether target is the error's kind.
func (e *Error) Is(target error) bool {
	k, ok := target.(Kind)
	return ok && k == e.kind
}

// Field is one thing that is wrong with a request. A Field is an Invalid
// problem by itself.
type Field struct {
	Field   string // where: a JSON Pointer (RFC 6901), such as "/filters/0/sql", or a path, such as "filters[0].sql"
	Message string // what is wrong; it never holds a secret
	Hint    string // what would be right; may be empty
	Value   any    // echoed to the client unless nil; never a secret
}

// Error implements error.
func (f Field) Error() string { return f.Field + ": " + f.Text() }

// Text is the message with its hint.
func (f Field) Text() string {
	if f.Hint == "" {
		return f.Message
	}
	return f.Message + " (" + f.Hint + ")"
}

// Is reports whether target is Invalid.
func (f Field) Is(target error) bool { return target == Invalid }

// kinds are all kinds, by what wins where an error has several.
var kinds = []Kind{Invalid, NotFound, Conflict, TooLarge, Unavailable}

// KindOf is the kind of err, however it is wrapped or joined; "" if it has
// none, and is therefore a fault of the server.
func KindOf(err error) Kind {
	for _, k := range kinds {
		if errors.Is(err, k) {
			return k
		}
	}
	return ""
}

// Fields are all fields in err's tree, in order.
func Fields(err error) []Field {
	switch e := err.(type) {
	case nil:
		return nil
	case *Error:
		return e.fields
	case Field:
		return []Field{e}
	case *Field:
		return []Field{*e}
	case interface{ Unwrap() error }:
		return Fields(e.Unwrap())
	case interface{ Unwrap() []error }:
		var out []Field
		for _, one := range e.Unwrap() {
			out = append(out, Fields(one)...)
		}
		return out
	}
	return nil
}

var escapes = strings.NewReplacer("~", "~0", "/", "~1")

// Escape makes one reference token of a JSON Pointer from a name.
func Escape(name string) string { return escapes.Replace(name) }
