package schemas

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"path"
	"reflect"
	"strings"
	"testing"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

func read(t *testing.T, name string) []byte {
	t.Helper()
	text, err := Files.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func compile(t *testing.T, typ string) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(read(t, typ+".json")))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource(typ, doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(typ)
	if err != nil {
		t.Fatalf("%s: %v", typ, err)
	}
	return s
}

func TestExamplesAreValidAndRoundTrip(t *testing.T) {
	t.Parallel()
	if len(Data) != len(Types) {
		t.Fatalf("%d types of data for %d types of events", len(Data), len(Types))
	}
	for _, typ := range Types {
		t.Run(typ, func(t *testing.T) {
			t.Parallel()
			schema := compile(t, typ)
			var e event.Event
			if err := json.Unmarshal(read(t, path.Join("examples", typ+".json")), &e); err != nil {
				t.Fatal(err)
			}
			if err := e.Validate(); err != nil || e.Type() != typ {
				t.Fatalf("type %s: %v", e.Type(), err)
			}
			doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(e.Data()))
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(doc); err != nil {
				t.Fatal(err)
			}
			v := reflect.New(reflect.TypeOf(Data[typ]))
			d := json.NewDecoder(bytes.NewReader(e.Data()))
			d.DisallowUnknownFields()
			if err := d.Decode(v.Interface()); err != nil {
				t.Fatal(err)
			}
			again, err := json.Marshal(v.Interface())
			if err != nil {
				t.Fatal(err)
			}
			back, err := jsonschema.UnmarshalJSON(bytes.NewReader(again))
			if err != nil || !reflect.DeepEqual(doc, back) {
				t.Errorf("came back as %s (%v)", again, err)
			}
			breakEach(t, schema, doc.(map[string]any))
		})
	}
}

// breakEach expects the schema to refuse the example with any member taken out
// that it must have, and with one that it does not know.
func breakEach(t *testing.T, schema *jsonschema.Schema, doc map[string]any) {
	t.Helper()
	for _, name := range schema.Required {
		v := doc[name]
		delete(doc, name)
		if schema.Validate(doc) == nil {
			t.Errorf("valid without %s", name)
		}
		doc[name] = v
		if m, ok := v.(map[string]any); ok && len(m) > 0 && name != "labels" {
			m["unknown member"] = true
			if schema.Validate(doc) == nil {
				t.Errorf("valid with an unknown member in %s", name)
			}
			delete(m, "unknown member")
		}
	}
	doc["unknown member"] = true
	if schema.Validate(doc) == nil {
		t.Error("valid with an unknown member")
	}
	delete(doc, "unknown member")
}

func TestFilesAreWhatTheTypesSay(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "run", "./internal/generate", "-check").CombinedOutput()
	if err != nil {
		t.Errorf("%s", out)
	}
	entries, err := Files.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{"asyncapi.json": true, "openapi.json": true, "examples": true}
	for _, typ := range Types {
		known[typ+".json"] = true
	}
	for _, e := range entries {
		if !known[e.Name()] {
			t.Errorf("%s belongs to no type", e.Name())
		}
	}
}

func TestAsyncAPIReferences(t *testing.T) {
	t.Parallel()
	var doc map[string]any
	if err := json.Unmarshal(read(t, "asyncapi.json"), &doc); err != nil {
		t.Fatal(err)
	}
	refs := 0
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				refs++
				resolve(t, doc, ref)
			}
			for _, one := range v {
				walk(one)
			}
		case []any:
			for _, one := range v {
				walk(one)
			}
		}
	}
	walk(doc)
	if refs < 3*len(Types) {
		t.Errorf("only %d references", refs)
	}
}

func resolve(t *testing.T, doc map[string]any, ref string) {
	t.Helper()
	local, ok := strings.CutPrefix(ref, "#/")
	if !ok {
		read(t, ref)
		return
	}
	var v any = doc
	for part := range strings.SplitSeq(local, "/") {
		m, ok := v.(map[string]any)
		if v = m[strings.NewReplacer("~1", "/", "~0", "~").Replace(part)]; !ok || v == nil {
			t.Errorf("%s leads nowhere", ref)
			return
		}
	}
}

func TestDurations(t *testing.T) {
	t.Parallel()
	var c SubscriptionConfig
	if err := json.Unmarshal([]byte(`{"timeout":"1m30s","retry":{"schedule":["5s","10m"]}}`), &c); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(c)
	if err != nil || string(text) != `{"retry":{"schedule":["5s","10m0s"]},"timeout":"1m30s"}` {
		t.Errorf("%s, %v", text, err)
	}
	if err := json.Unmarshal([]byte(`{"timeout":"soon"}`), &c); err == nil || !strings.Contains(err.Error(), `"30s"`) {
		t.Errorf("soon: %v", err)
	}
}
