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
	Data        []byte

	cloud   *event.Event
	attrs   map[string]any
	decoded any
}

// Attributes are the names of the attributes that events of Tocsin may have,
// and of what kind they are: a filter on any other would never be true, and is
// refused.
var Attributes = map[string]Kind{
	"specversion": Text, "id": Text, "source": Text, "type": Text, "subject": Text,
	"time": Text, "datacontenttype": Text, "dataschema": Text, "traceparent": Text,
	"severity": Text, "updater": Text, "image": Text,
	"severityrank": Integer, "epss": Integer, "added": Integer, "removed": Integer, "revised": Integer,
	"fixable": Boolean, "kev": Boolean, "firstload": Boolean,
}

// Kind is the type of an attribute.
type Kind string

// The kinds of attributes.
const (
	Text    Kind = "string"
	Integer Kind = "integer"
	Boolean Kind = "boolean"
)

// Attr is an attribute's value, an int32, a bool or a string; false where the
// event does not have it.
func (e *Event) Attr(name string) (any, bool) {
	x := &e.Extensions
	switch name {
	case "specversion":
		return event.CloudEventsVersionV1, true
	case "id":
		return e.ID, true
	case "source":
		return e.Source, true
	case "type":
		return e.Type, true
	case "subject":
		return e.Subject, e.Subject != ""
	case "time":
		return e.Time.UTC().Format(time.RFC3339Nano), true
	case "datacontenttype":
		return event.ApplicationJSON, true
	case "dataschema":
		return e.DataSchema, e.DataSchema != ""
	case "traceparent":
		return e.TraceParent, e.TraceParent != ""
	case "severity":
		return deref(x.Severity)
	case "severityrank":
		return deref(x.SeverityRank)
	case "fixable":
		return deref(x.Fixable)
	case "kev":
		return deref(x.KEV)
	case "epss":
		return deref(x.EPSS)
	case "updater":
		return deref(x.Updater)
	case "image":
		return deref(x.Image)
	case "added":
		return deref(x.Added)
	case "removed":
		return deref(x.Removed)
	case "revised":
		return deref(x.Revised)
	case "firstload":
		return deref(x.FirstLoad)
	}
	return nil, false
}

func deref[T any](p *T) (any, bool) {
	if p == nil {
		return nil, false
	}
	return *p, true
}

// Text is an attribute in its canonical string form (CloudEvents 1.0, section
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
	for _, name := range extensionNames {
		if v, ok := e.Attr(name); ok {
			c.Extensions[name] = v
		}
	}
	ce.DataEncoded = e.Data
	e.cloud = &ce
	return ce
}

// SetData gives the event its data, as JSON.
func (e *Event) SetData(data []byte) {
	e.Data, e.cloud, e.decoded = data, nil, nil
}

var extensionNames = []string{
	"severity", "severityrank", "fixable", "kev", "epss", "updater", "image",
	"added", "removed", "revised", "firstload", "traceparent",
}

// ErrNoData is why a filter that reads data can't be evaluated without it.
var ErrNoData = errors.New("filter: the event's data is not at hand")

// value is the data as JSON's Go values.
func (e *Event) value() (any, error) {
	if e.decoded != nil {
		return e.decoded, nil
	}
	if e.Data == nil {
		return nil, ErrNoData
	}
	if err := json.Unmarshal(e.Data, &e.decoded); err != nil {
		return nil, err
	}
	return e.decoded, nil
}

// all is every attribute the event has.
func (e *Event) all() map[string]any {
	if e.attrs == nil {
		e.attrs = make(map[string]any, len(Attributes))
		for name := range Attributes {
			if v, ok := e.Attr(name); ok {
				e.attrs[name] = v
			}
		}
	}
	return e.attrs
}
