// Package flags makes filters of what people ask for most: a severity, a fix, an
// image's name with * in it. It is for the command line and the page; the filters
// are those of package filter, which compiles and evaluates them.
package flags

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/schemas"
)

// Flags are the filters that people ask for most, as the command line has
// them. A zero value asks for nothing.
type Flags struct {
	Severity string // at least this normalized severity, in any case
	Fixable  bool   // something added or revised has a fix
	Image    string // the image's name, * for anything and ? for a character
	Updater  string // the updater's name, with * and ? too
	KEV      bool   // something is known to be exploited
	EPSS     int    // at least this exploit prediction, 1–100
}

// Filters makes filters of flags. What is wrong with them is
// [problem.Invalid]; its fields name the flags.
func Filters(f Flags) ([]schemas.Filter, error) {
	var wrong []problem.Field
	var out []schemas.Filter
	if f.Severity != "" {
		rank := -1
		for i, name := range schemas.SeverityNames {
			if strings.EqualFold(name, f.Severity) {
				rank = i
			}
		}
		if rank < 0 {
			wrong = append(wrong, problem.Field{Field: "/severity", Message: fmt.Sprintf("is %q", clip(f.Severity)), Hint: strings.Join(schemas.SeverityNames[:], ", ")})
		}
		out = append(out, schemas.Filter{SQL: fmt.Sprintf("severityrank >= %d", rank)})
	}
	if f.Fixable {
		out = append(out, schemas.Filter{Exact: map[string]string{"fixable": "true"}})
	}
	if f.KEV {
		out = append(out, schemas.Filter{Exact: map[string]string{"kev": "true"}})
	}
	if f.EPSS < 0 || f.EPSS > 100 {
		wrong = append(wrong, problem.Field{Field: "/epss", Message: fmt.Sprintf("is %d", f.EPSS), Hint: "1 to 100, in percent"})
	} else if f.EPSS > 0 {
		out = append(out, schemas.Filter{SQL: fmt.Sprintf("epss >= %d", f.EPSS)})
	}
	for _, p := range []struct{ name, pattern string }{{"image", f.Image}, {"updater", f.Updater}} {
		if p.pattern == "" {
			continue
		}
		if fault := faultOf(p.pattern); fault != nil {
			fault.Field = "/" + p.name
			wrong = append(wrong, *fault)
			continue
		}
		out = append(out, ofPattern(p.name, p.pattern))
	}
	if len(wrong) > 0 {
		return nil, problem.Refuse(wrong...)
	}
	return out, nil
}

// maxPattern is the longest shell pattern of a flag, in bytes.
const maxPattern = 1024

// faultOf says what is wrong with a shell pattern, nil if nothing is.
func faultOf(pattern string) *problem.Field {
	switch {
	case len(pattern) > maxPattern:
		return &problem.Field{Message: fmt.Sprintf("has %d bytes, over the limit of %d", len(pattern), maxPattern)}
	case !utf8.ValidString(pattern):
		return &problem.Field{Message: "is not valid UTF-8"}
	case strings.ContainsFunc(pattern, unicode.IsControl):
		return &problem.Field{Message: "has control characters"}
	case strings.ContainsAny(pattern, `'"\`):
		return &problem.Field{Message: "has quotes or backslashes", Hint: "letters, digits and . _ - / : @ * ?"}
	}
	return nil
}

// ofPattern is the filter of a shell pattern over an attribute, in the dialect
// that is cheapest to match.
func ofPattern(name, pattern string) schemas.Filter {
	switch star := strings.IndexAny(pattern, "*?"); {
	case strings.Trim(pattern, "*") == "": // anything, if it is there
		return schemas.Filter{SQL: "EXISTS " + name}
	case star < 0:
		return schemas.Filter{Exact: map[string]string{name: pattern}}
	case star == len(pattern)-1 && pattern[star] == '*':
		return schemas.Filter{Prefix: map[string]string{name: pattern[:star]}}
	case star == 0 && pattern[0] == '*' && !strings.ContainsAny(pattern[1:], "*?"):
		return schemas.Filter{Suffix: map[string]string{name: pattern[1:]}}
	}
	return schemas.Filter{SQL: name + " LIKE '" + Like(pattern) + "'"}
}

// Like makes a pattern of SQL's LIKE from a shell pattern, in which *
// stands for anything and ? for one character.
func Like(glob string) string {
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`, `*`, `%`, `?`, `_`).Replace(glob)
}

// clip keeps what is repeated to a client short.
func clip(s string) string {
	if len(s) > 64 {
		return strings.ToValidUTF8(s[:64], "") + "…"
	}
	return s
}
