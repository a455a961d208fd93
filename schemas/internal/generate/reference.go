package main

import (
	"fmt"
	"strings"

	"tocsin.dev/tocsin/schemas"
)

// referencePath is the page for people about events, from package schemas.
const referencePath = "../docs/events.md"

// The table of attributes stands between these two lines of the page.
const (
	tableBegins = "<!-- attributes: made by `go generate ./schemas` -->\n"
	tableEnds   = "<!-- end of attributes -->\n"
)

// withAttributes puts the table of attributes into the page.
func withAttributes(page string) (string, error) {
	before, rest, ok := strings.Cut(page, tableBegins)
	_, after, end := strings.Cut(rest, tableEnds)
	if !ok || !end {
		return "", fmt.Errorf("no lines %q and %q to put the table of attributes between", tableBegins, tableEnds)
	}
	var b strings.Builder
	b.WriteString(before + tableBegins + "| attribute | type | |\n|---|---|---|\n")
	for _, a := range schemas.Attributes {
		meaning := a.Meaning
		if a.Values != "" {
			meaning += ": " + a.Values
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", a.Name, strings.ToLower(string(a.Kind())), meaning)
	}
	b.WriteString("| `traceparent` | string | trace context of what caused the event |\n")
	b.WriteString(tableEnds + after)
	return b.String(), nil
}
