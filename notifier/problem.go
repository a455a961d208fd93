package notifier

import (
	"fmt"
	"strings"
)

// FieldError is one thing wrong with what a client sent. Pointer is a JSON
// pointer (RFC 6901) into it. It never holds a secret.
type FieldError struct {
	Pointer string `json:"pointer"`
	Detail  string `json:"detail"`
	Hint    string `json:"hint,omitempty"`
}

func (f FieldError) String() string {
	s := f.Pointer + ": " + f.Detail
	if f.Hint != "" {
		s += " (" + f.Hint + ")"
	}
	return s
}

// Error implements error, for [Options.CheckSink] to return one.
func (f FieldError) Error() string { return f.String() }

// Error is everything wrong with what a client sent, for an RFC 9457 problem.
type Error struct {
	Fields []FieldError
}

func (e *Error) Error() string {
	parts := make([]string, len(e.Fields))
	for i, f := range e.Fields {
		parts[i] = f.String()
	}
	return fmt.Sprintf("refused: %s", strings.Join(parts, "; "))
}
