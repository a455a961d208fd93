package notifier

import (
	"bytes"
	"encoding/json"
	"sync"
	"testing"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"tocsin.dev/tocsin/schemas"
)

var dataSchemas = sync.OnceValues(func() (map[string]*jsonschema.Schema, error) {
	out := map[string]*jsonschema.Schema{}
	for _, typ := range schemas.Types {
		text, err := schemas.Files.ReadFile(typ + ".json")
		if err != nil {
			return nil, err
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			return nil, err
		}
		c := jsonschema.NewCompiler()
		c.AssertFormat()
		if err := c.AddResource(typ, doc); err != nil {
			return nil, err
		}
		if out[typ], err = c.Compile(typ); err != nil {
			return nil, err
		}
	}
	return out, nil
})

// validateEvent holds an event to CloudEvents and its data to its schema.
func validateEvent(t testing.TB, e event.Event) {
	t.Helper()
	if err := e.Validate(); err != nil {
		t.Errorf("%s: %v", e.Type(), err)
	}
	all, err := dataSchemas()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(e.Data()))
	if err != nil {
		t.Fatalf("%s: %v", e.Type(), err)
	}
	if err := all[e.Type()].Validate(doc); err != nil {
		t.Errorf("%s: %v", e.Type(), err)
	}
	// What is sent reads back as the same event.
	text, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	var back event.Event
	if err := json.Unmarshal(text, &back); err != nil || back.Validate() != nil || back.ID() != e.ID() || !bytes.Equal(back.Data(), e.Data()) {
		t.Errorf("%s came back as %s (%v)", e.Type(), back, err)
	}
}
