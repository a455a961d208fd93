package filter

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	sqlerrors "github.com/cloudevents/sdk-go/sql/v2/errors"
	"github.com/cloudevents/sdk-go/v2/binding/spec"
	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/goccy/go-yaml"
)

// tckCase is one case of the CloudEvents SQL conformance suite.
type tckCase struct {
	Name           string         `yaml:"name"`
	Expression     string         `yaml:"expression"`
	Result         any            `yaml:"result"`
	Error          string         `yaml:"error"`
	Event          map[string]any `yaml:"event"`
	EventOverrides map[string]any `yaml:"eventOverrides"`
}

// TestConformance runs the conformance cases that the CloudEvents SDK ships
// with its module, through this package's own parsing.
func TestConformance(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/cloudevents/sdk-go/sql/v2").Output()
	if err != nil {
		t.Fatalf("where the SDK's module is: %v", err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "test", "tck", "*.yaml"))
	if err != nil || len(files) < 18 {
		t.Fatalf("found %d files of the suite (%v)", len(files), err)
	}
	cases := 0
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var file struct {
			Name  string    `yaml:"name"`
			Tests []tckCase `yaml:"tests"`
		}
		if err := yaml.Unmarshal(text, &file); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for _, tc := range file.Tests {
			cases++
			t.Run(file.Name+"/"+tc.Name, func(t *testing.T) { tc.run(t) })
		}
	}
	if cases < 200 {
		t.Errorf("only %d cases", cases)
	}
	t.Logf("%d cases in %d files", cases, len(files))
}

func (tc tckCase) run(t *testing.T) {
	t.Parallel()
	tree, faults := parseSQL(tc.Expression)
	if tc.Error == "parse" {
		if len(faults) == 0 {
			t.Fatalf("%s: parsed", tc.Expression)
		}
		return
	}
	if len(faults) > 0 {
		t.Fatalf("%s: %v", tc.Expression, faults)
	}
	compile := &sqlTree{}
	expr := compile.expression(tree.Expression())
	if compile.err != nil {
		t.Fatalf("%s: %v", tc.Expression, compile.err)
	}
	got, err := expr.Evaluate(tc.input(t))
	if kind := errorKind(err); kind != tc.Error {
		t.Errorf("%s: error %q (%v), want %q", tc.Expression, kind, err, tc.Error)
	}
	if want := fmt.Sprint(tc.Result); fmt.Sprint(got) != want {
		t.Errorf("%s = %v, want %v", tc.Expression, got, want)
	}
}

func errorKind(err error) string {
	switch {
	case err == nil:
		return ""
	case sqlerrors.IsMathError(err):
		return "math"
	case sqlerrors.IsCastError(err):
		return "cast"
	case sqlerrors.IsMissingFunctionError(err):
		return "missingFunction"
	case sqlerrors.IsFunctionEvaluationError(err):
		return "functionEvaluation"
	case sqlerrors.IsMissingAttributeError(err):
		return "missingAttribute"
	case sqlerrors.IsGenericError(err):
		return "generic"
	}
	return err.Error()
}

// input is the case's event, or the one that the suite gives every other case.
func (tc tckCase) input(t *testing.T) event.Event {
	t.Helper()
	e := event.New()
	attrs := tc.Event
	if attrs == nil {
		attrs = map[string]any{
			"id": "full-event", "source": "http://example.com/source", "type": "com.example.FullEvent", "subject": "topic",
			"time": "2020-03-21T12:34:56.78Z", "dataschema": "http://example.com/schema", "datacontenttype": "text/json",
			"exbool": true, "exint": int32(42), "exstring": "exstring", "exbinary": []byte{0, 1, 2, 3},
			"exurl": "http://example.com/source", "extime": "2020-03-21T12:34:56.78Z",
		}
	}
	for _, m := range []map[string]any{attrs, tc.EventOverrides} {
		for k, v := range m {
			if n, ok := v.(uint64); ok {
				v = int32(n)
			}
			if n, ok := v.(int64); ok {
				v = int32(n)
			}
			if k == "specversion" {
				continue
			}
			if err := spec.V1.SetAttribute(e.Context, k, v); err != nil {
				t.Fatalf("%s: %v", k, err)
			}
		}
	}
	return e
}
