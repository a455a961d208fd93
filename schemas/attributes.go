package schemas

import (
	"encoding/json"
	"fmt"
)

// Kind is the type of an attribute, as CloudEvents 1.0, section 2.4 names it.
type Kind string

// The kinds of attributes.
const (
	String  Kind = "String"
	Integer Kind = "Integer"
	Boolean Kind = "Boolean"
)

// Extensions are the CloudEvents extension attributes that let a filter decide
// without opening the data. A nil pointer leaves the attribute out.
//
// [Attributes] says everything about each of them: a new one is a field here and
// a row there.
type Extensions struct {
	Severity     *string
	SeverityRank *int32
	Fixable      *bool
	KEV          *bool
	EPSS         *int32
	Updater      *string
	Image        *string
	Added        *int32
	Removed      *int32
	Revised      *int32
	FirstLoad    *bool
	Coverage     *string
	Superseded   *bool
}

// Attribute is one extension attribute. Filters, the event log, the AsyncAPI
// document and the reference in docs/events.md are made from it.
type Attribute struct {
	Name    string // on the wire: lower-case letters and digits
	Meaning string // for people, in Markdown
	Values  string // what an integer may be, for people; may be empty

	kept  place
	field func(x *Extensions) any // a pointer to the field, which is a pointer itself
}

// place is where the event log keeps an attribute.
type place int

const (
	inAttributes place = iota // in the column attributes, which holds all that have no column of their own
	inColumn                  // in a column of its own, of the attribute's name
	computed                  // nowhere: it follows from another
)

// Attributes are the extension attributes that events may have, beside the
// trace context.
var Attributes = []Attribute{
	{Name: "severity", Meaning: "top normalized severity of what was added and revised, or removed if that is all", kept: computed,
		field: func(x *Extensions) any { return &x.Severity }},
	{Name: "severityrank", Meaning: "the rank of that severity", Values: "0 Unknown to 5 Critical", kept: inColumn,
		field: func(x *Extensions) any { return &x.SeverityRank }},
	{Name: "fixable", Meaning: "something added or revised, or removed if that is all, names a fixed version", kept: inColumn,
		field: func(x *Extensions) any { return &x.Fixable }},
	{Name: "kev", Meaning: "something added or revised, or removed if that is all, is known to be exploited", kept: inColumn,
		field: func(x *Extensions) any { return &x.KEV }},
	{Name: "epss", Meaning: "highest exploit prediction of what was added and revised, in percent, rounded up", Values: "0 to 100", kept: inColumn,
		field: func(x *Extensions) any { return &x.EPSS }},
	{Name: "updater", Meaning: "the updater, as `osv/go`", kept: inColumn,
		field: func(x *Extensions) any { return &x.Updater }},
	{Name: "image", Meaning: "the image's first name", kept: inColumn,
		field: func(x *Extensions) any { return &x.Image }},
	{Name: "added", Meaning: "how many findings were added", kept: inColumn,
		field: func(x *Extensions) any { return &x.Added }},
	{Name: "removed", Meaning: "how many findings were removed", kept: inColumn,
		field: func(x *Extensions) any { return &x.Removed }},
	{Name: "revised", Meaning: "how many findings were revised", kept: inColumn,
		field: func(x *Extensions) any { return &x.Revised }},
	{Name: "firstload", Meaning: "the updater's first load: everything is new to Tocsin, though not to everybody", kept: inColumn,
		field: func(x *Extensions) any { return &x.FirstLoad }},
	{Name: "coverage", Meaning: "of an image that was indexed or has changed: `full`, `partial` or `none` of it is such that a loaded feed could speak of it ([coverage](coverage.md))",
		field: func(x *Extensions) any { return &x.Coverage }},
	{Name: "superseded", Meaning: "true where names stood for the image and none does any more; absent otherwise",
		field: func(x *Extensions) any { return &x.Superseded }},
}

// Kind is the attribute's type.
func (a Attribute) Kind() Kind {
	switch a.field(&Extensions{}).(type) {
	case **int32:
		return Integer
	case **bool:
		return Boolean
	default:
		return String
	}
}

// Of is the attribute's value, a string, an int32 or a bool; false where x does
// not have it.
func (a Attribute) Of(x *Extensions) (any, bool) {
	switch p := a.field(x).(type) {
	case **string:
		if *p != nil {
			return **p, true
		}
	case **int32:
		if *p != nil {
			return **p, true
		}
	case **bool:
		if *p != nil {
			return **p, true
		}
	}
	return nil, false
}

// HasColumn reports whether the event log keeps the attribute in a column of its
// own.
func (a Attribute) HasColumn() bool { return a.kept == inColumn }

// Column is a pointer to the attribute's field of x, to scan its column into and
// to write it from.
func (a Attribute) Column(x *Extensions) any { return a.field(x) }

// Others are the attributes of x that have no column of their own, by name: what
// the event log's column attributes holds. It is nil if x has none of them.
func (x *Extensions) Others() map[string]any { return others(Attributes, x) }

func others(table []Attribute, x *Extensions) map[string]any {
	var out map[string]any
	for _, a := range table {
		if a.kept != inAttributes {
			continue
		}
		if v, ok := a.Of(x); ok {
			if out == nil {
				out = map[string]any{}
			}
			out[a.Name] = v
		}
	}
	return out
}

// SetOthers sets the attributes of x that have no column of their own from JSON
// that holds them by name, as [Extensions.Others] does. Names that this version
// does not know are left out.
func (x *Extensions) SetOthers(text []byte) error { return setOthers(Attributes, x, text) }

func setOthers(table []Attribute, x *Extensions, text []byte) error {
	if len(text) == 0 {
		return nil
	}
	var values map[string]json.RawMessage
	if err := json.Unmarshal(text, &values); err != nil {
		return fmt.Errorf("attributes: %w", err)
	}
	for _, a := range table {
		if raw, ok := values[a.Name]; ok && a.kept == inAttributes {
			if err := json.Unmarshal(raw, a.field(x)); err != nil {
				return fmt.Errorf("attribute %s: %w", a.Name, err)
			}
		}
	}
	return nil
}
