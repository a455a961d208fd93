package eventlog

import (
	"strings"
	"testing"

	"tocsin.dev/tocsin/schemas"
)

// The columns stand in the order of the table, which they are scanned in.
func TestAttributeColumnsAreThoseOfTheTable(t *testing.T) {
	t.Parallel()
	var want []string
	for _, a := range schemas.Attributes {
		if a.HasColumn() {
			want = append(want, a.Name)
		}
	}
	want = append(want, "attributes")
	got := strings.ReplaceAll(attributeColumns, "::integer", "")
	if got != strings.Join(want, ", ") {
		t.Errorf("the columns are %s, the table has %s", got, want)
	}
}
