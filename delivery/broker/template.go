package broker

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"

	"tocsin.dev/tocsin/internal/problem"
)

// MaxTemplate bounds a template's length in bytes.
const MaxTemplate = 512

// Template is a destination with attributes of the event in it: in
// "tocsin.{severity}.{updater}" each name in braces is replaced by the event's
// context attribute of that name, and by "none" where the event has none.
type Template struct {
	literals []string // one more than names
	names    []string
}

// ParseTemplate reads the template of a protocol setting. What is wrong with it
// is named with the place.
func ParseTemplate(setting, text string) (Template, []problem.Field) {
	fail := func(at int, why string) (Template, []problem.Field) {
		return Template{}, []problem.Field{{Field: "/protocolsettings/" + setting, Message: fmt.Sprintf("has %s at byte %d", why, at)}}
	}
	if len(text) > MaxTemplate {
		return Template{}, []problem.Field{{
			Field: "/protocolsettings/" + setting, Message: fmt.Sprintf("has %d bytes, over the limit of %d", len(text), MaxTemplate),
		}}
	}
	var t Template
	rest, at := text, 0
	for {
		open := strings.IndexAny(rest, "{}")
		if open < 0 {
			t.literals = append(t.literals, rest)
			return t, nil
		}
		if rest[open] == '}' {
			return fail(at+open, "a closing brace without an opening one")
		}
		end := strings.IndexAny(rest[open+1:], "{}")
		if end < 0 || rest[open+1+end] == '{' {
			return fail(at+open, "a brace that is not closed")
		}
		name := rest[open+1 : open+1+end]
		if name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
			return fail(at+open+1, "braces around what is no attribute's name (lower-case letters and digits)")
		}
		t.literals, t.names = append(t.literals, rest[:open]), append(t.names, name)
		at += open + end + 2
		rest = rest[open+end+2:]
	}
}

// Expand fills the template from e. Each value passes through escape, which
// keeps it from breaking the destination's syntax; literals do not.
func (t Template) Expand(e *event.Event, escape func(string) string) string {
	var b strings.Builder
	for i, literal := range t.literals {
		b.WriteString(literal)
		if i < len(t.names) {
			v := Attributes(e)[t.names[i]]
			if v == "" {
				v = "none"
			}
			b.WriteString(escape(v))
		}
	}
	return b.String()
}

// Sample is the template with every attribute replaced by one word: what it
// expands to in form, whatever the event.
func (t Template) Sample() string { return strings.Join(t.literals, "x") }

// Word replaces all but ASCII letters, digits, '-' and '_' by '_': safe as one
// word of a NATS subject, an AMQP topic key or a STOMP destination.
func Word(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '_'
	}, s)
}

// Attributes are the event's context attributes in their canonical string
// form (CloudEvents 1.0, section 2.2), datacontenttype left out: a message has
// a place of its own for that.
func Attributes(e *event.Event) map[string]string {
	m := map[string]string{
		"specversion": e.SpecVersion(), "id": e.ID(), "source": e.Source(), "type": e.Type(),
	}
	if s := e.Subject(); s != "" {
		m["subject"] = s
	}
	if !e.Time().IsZero() {
		m["time"] = types.FormatTime(e.Time())
	}
	if s := e.DataSchema(); s != "" {
		m["dataschema"] = s
	}
	for name, value := range e.Extensions() {
		if s, err := types.Format(value); err == nil {
			m[name] = s
		}
	}
	return m
}

// Reserved are the header names a subscription's own headers may not take.
func Reserved(name string) bool {
	n := strings.ToLower(name)
	return strings.HasPrefix(n, "cloudevents") || strings.HasPrefix(n, "ce-") ||
		slices.Contains([]string{"content-type", "content-length", "destination", "receipt", "transaction", "message-id"}, n)
}
