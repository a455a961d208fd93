package problem_test

import (
	"errors"
	"fmt"
	"reflect"
	"testing"

	"tocsin.dev/tocsin/internal/problem"
)

var errNoSuch = problem.New(problem.NotFound, "no such image")

func TestKindsOutliveWrapping(t *testing.T) {
	t.Parallel()
	field := problem.Field{Field: "/sink", Message: "is missing", Hint: "such as https://example.com"}
	for _, tc := range []struct {
		err    error
		kind   problem.Kind
		text   string
		fields []problem.Field
	}{
		{errNoSuch, problem.NotFound, "no such image", nil},
		{fmt.Errorf("read report: %w", errNoSuch), problem.NotFound, "read report: no such image", nil},
		{fmt.Errorf("%w: a job's id is a UUID", problem.NotFound), problem.NotFound, "not found: a job's id is a UUID", nil},
		{errors.Join(errors.New("other"), problem.New(problem.Conflict, "is at version %d", 3)), problem.Conflict, "other\nis at version 3", nil},
		{fmt.Errorf("create: %w", problem.Refuse(field, problem.Field{Field: "/name", Message: "is too long"})), problem.Invalid,
			"create: refused: /sink: is missing (such as https://example.com); /name: is too long", []problem.Field{field, {Field: "/name", Message: "is too long"}}},
		{errors.Join(&field, field), problem.Invalid,
			"/sink: is missing (such as https://example.com)\n/sink: is missing (such as https://example.com)", []problem.Field{field, field}},
		{errors.New("disk full"), "", "disk full", nil},
		{problem.New(problem.TooLarge, "5 bytes"), problem.TooLarge, "5 bytes", nil},
		{fmt.Errorf("ask the registry: %w", problem.Unavailable), problem.Unavailable, "ask the registry: unavailable", nil},
	} {
		if got := problem.KindOf(tc.err); got != tc.kind || tc.err.Error() != tc.text {
			t.Errorf("%q is %q, want %q, %q", tc.err, got, tc.text, tc.kind)
		}
		if got := problem.Fields(tc.err); !reflect.DeepEqual(got, tc.fields) {
			t.Errorf("%q: fields %v, want %v", tc.err, got, tc.fields)
		}
	}
	if !errors.Is(fmt.Errorf("x: %w", errNoSuch), errNoSuch) || errors.Is(errNoSuch, problem.New(problem.NotFound, "another")) {
		t.Error("a sentinel is not itself alone")
	}
	if problem.Refuse() != nil || problem.KindOf(nil) != "" {
		t.Error("nothing wrong is a problem")
	}
}
