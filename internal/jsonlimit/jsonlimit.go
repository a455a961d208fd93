// Package jsonlimit bounds what a JSON text may hold before it is decoded: a few
// megabytes of empty objects become hundreds of megabytes of Go values, and an error
// for each.
//
// It guarantees that [Check] allocates nothing on its way and takes time linear in
// the text. It does not check that the text is JSON: that is the decoder's.
package jsonlimit

import (
	"encoding/json"
	"fmt"
)

// Limits bound a JSON text. Zero means the default.
type Limits struct {
	Items  int // elements of one array, or members of one object; default 2,000
	Values int // arrays, objects and scalars in all; default 100,000
	Depth  int // of nesting; default 64
}

// Defaults of [Limits].
const (
	Items  = 2_000
	Values = 100_000
	Depth  = 64
)

// Error says which limit a text is over, and where.
type Error struct {
	Offset int // of the byte where it went over
	What   string
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("at byte %d: %s", e.Offset, e.What) }

// Unmarshal is [json.Unmarshal] for a text within the limits.
func (l Limits) Unmarshal(data []byte, v any) error {
	if err := l.Check(data); err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}

// Check returns an [*Error] for a text over the limits.
func (l Limits) Check(data []byte) error {
	l = l.filled()
	counts := make([]int, 0, Depth) // commas seen at each depth
	values := 1
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '"':
			for i++; i < len(data) && data[i] != '"'; i++ {
				if data[i] == '\\' {
					i++
				}
			}
		case '[', '{':
			if len(counts) == l.Depth {
				return &Error{i, fmt.Sprintf("nested more than %d deep", l.Depth)}
			}
			counts = append(counts, 0)
			if values++; values > l.Values {
				return &Error{i, fmt.Sprintf("more than %d values", l.Values)}
			}
		case ']', '}':
			if len(counts) > 0 {
				counts = counts[:len(counts)-1]
			}
		case ',':
			if values++; values > l.Values {
				return &Error{i, fmt.Sprintf("more than %d values", l.Values)}
			}
			if n := len(counts); n > 0 {
				if counts[n-1]++; counts[n-1] >= l.Items {
					return &Error{i, fmt.Sprintf("more than %d elements in one array or object", l.Items)}
				}
			}
		}
	}
	return nil
}

func (l Limits) filled() Limits {
	if l.Items <= 0 {
		l.Items = Items
	}
	if l.Values <= 0 {
		l.Values = Values
	}
	if l.Depth <= 0 {
		l.Depth = Depth
	}
	return l
}
