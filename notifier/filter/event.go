package filter

import (
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"tocsin.dev/tocsin/schemas"
)

// Event is one event as filters see it. Data is its JSON, nil where it has
// not been rendered. An Event serves one goroutine at a time.
type Event struct {
	ID          string
	Source      string
	Type        string
	Subject     string // "" where there is none
	DataSchema  string
	TraceParent string
	Time        time.Time
	Extensions  schemas.Extensions
	// Names are all names of the image: a filter that is true of the event under
	// one of them is true of it. The attribute image is one of them.
	Names []string
	Data  []byte

	cloud   *event.Event
	attrs   map[string]any
	decoded any
}

// attributeKind is the type of an attribute.
type attributeKind = schemas.Kind

// The kinds of attributes.
const (
	textAttribute    = schemas.String
	integerAttribute = schemas.Integer
	booleanAttribute = schemas.Boolean
)

// contextAttributes are the attributes that every event may have beside those of
// schemas.Attributes. All of them are texts; "" is one that the event lacks.
var contextAttributes = map[string]func(e *Event) string{
	"specversion":     func(*Event) string { return event.CloudEventsVersionV1 },
	"id":              func(e *Event) string { return e.ID },
	"source":          func(e *Event) string { return e.Source },
	"type":            func(e *Event) string { return e.Type },
	"subject":         func(e *Event) string { return e.Subject },
	"time":            func(e *Event) string { return e.Time.UTC().Format(time.RFC3339Nano) },
	"datacontenttype": func(*Event) string { return event.ApplicationJSON },
	"dataschema":      func(e *Event) string { return e.DataSchema },
	"traceparent":     func(e *Event) string { return e.TraceParent },
}

// extensions are schemas.Attributes by name.
var extensions = func() map[string]schemas.Attribute {
	out := make(map[string]schemas.Attribute, len(schemas.Attributes))
	for _, a := range schemas.Attributes {
		out[a.Name] = a
	}
	return out
}()

// attributeTypes are the names of the attributes that events of Tocsin may have,
// and of what kind they are: a filter on any other would never be true, and is
// refused.
var attributeTypes = func() map[string]attributeKind {
	out := make(map[string]attributeKind, len(contextAttributes)+len(extensions))
	for name := range contextAttributes {
		out[name] = textAttribute
	}
	for name, a := range extensions {
		out[name] = a.Kind()
	}
	return out
}()

// Attr is an attribute's value, an int32, a bool or a string; false where the
// event does not have it.
func (e *Event) Attr(name string) (any, bool) {
	if a, ok := extensions[name]; ok {
		return a.Of(&e.Extensions)
	}
	if of, ok := contextAttributes[name]; ok {
		v := of(e)
		return v, v != ""
	}
	return nil, false
}

// textAttribute is an attribute in its canonical string form (CloudEvents 1.0, section
// 2.4); false where the event does not have it.
func (e *Event) Text(name string) (string, bool) {
	v, ok := e.Attr(name)
	if !ok {
		return "", false
	}
	switch v := v.(type) {
	case string:
		return v, true
	case int32:
		return strconv.Itoa(int(v)), true
	case bool:
		return strconv.FormatBool(v), true
	}
	return "", false
}

// CloudEvent is the event for the SDK. It is made once, without data unless
// Data is there, and must not be changed.
func (e *Event) CloudEvent() event.Event {
	if e.cloud != nil {
		return *e.cloud
	}
	c := &event.EventContextV1{ID: e.ID, Type: e.Type, Extensions: make(map[string]any, 12)}
	ce := event.Event{Context: c}
	ce.SetSource(e.Source)
	ce.SetTime(e.Time.UTC())
	if e.Subject != "" {
		ce.SetSubject(e.Subject)
	}
	if e.DataSchema != "" {
		ce.SetDataSchema(e.DataSchema)
	}
	json := event.ApplicationJSON
	c.DataContentType = &json
	for _, a := range schemas.Attributes {
		if v, ok := a.Of(&e.Extensions); ok {
			c.Extensions[a.Name] = v
		}
	}
	if e.TraceParent != "" {
		c.Extensions["traceparent"] = e.TraceParent
	}
	ce.DataEncoded = e.Data
	e.cloud = &ce
	return ce
}

// SetData gives the event its data, as JSON.
func (e *Event) SetData(data []byte) {
	e.Data, e.cloud, e.decoded = data, nil, nil
}

// errNoData is why a filter that reads data can't be evaluated without it.
var errNoData = errors.New("filter: the event's data has not been read")

// value is the data as JSON's Go values.
func (e *Event) value() (any, error) {
	if e.decoded != nil {
		return e.decoded, nil
	}
	if e.Data == nil {
		return nil, errNoData
	}
	if err := json.Unmarshal(e.Data, &e.decoded); err != nil {
		return nil, err
	}
	return e.decoded, nil
}

// all is every attribute the event has.
func (e *Event) all() map[string]any {
	if e.attrs == nil {
		e.attrs = make(map[string]any, len(attributeTypes))
		for name := range attributeTypes {
			if v, ok := e.Attr(name); ok {
				e.attrs[name] = v
			}
		}
	}
	return e.attrs
}
