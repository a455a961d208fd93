package notifier

import (
	"fmt"
	"strings"

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

// FilterFromFlags makes filters of flags. What is wrong with them it returns
// as an *Error whose pointers name the flags.
func FilterFromFlags(f Flags) ([]schemas.Filter, error) {
	c := &checker{}
	var out []schemas.Filter
	if f.Severity != "" {
		rank := -1
		for i, name := range schemas.SeverityNames {
			if strings.EqualFold(name, f.Severity) {
				rank = i
			}
		}
		if rank < 0 {
			c.refuse("/severity", strings.Join(schemas.SeverityNames[:], ", "), "is %q", clip(f.Severity))
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
		c.refuse("/epss", "1 to 100, in percent", "is %d", f.EPSS)
	} else if f.EPSS > 0 {
		out = append(out, schemas.Filter{SQL: fmt.Sprintf("epss >= %d", f.EPSS)})
	}
	out = c.pattern(out, "image", f.Image)
	out = c.pattern(out, "updater", f.Updater)
	if len(c.fields) > 0 {
		return nil, &Error{Fields: c.fields}
	}
	return out, nil
}

// pattern adds the filter of a shell pattern over an attribute, in the dialect
// that is cheapest to match.
func (c *checker) pattern(out []schemas.Filter, name, pattern string) []schemas.Filter {
	if pattern == "" || !c.text("/"+name, pattern, maxText) {
		return out
	}
	if strings.ContainsAny(pattern, `'"\`) {
		c.refuse("/"+name, "letters, digits and . _ - / : @ * ?", "has quotes or backslashes")
		return out
	}
	switch star := strings.IndexAny(pattern, "*?"); {
	case strings.Trim(pattern, "*") == "": // anything, if it is there
		return append(out, schemas.Filter{SQL: "EXISTS " + name})
	case star < 0:
		return append(out, schemas.Filter{Exact: map[string]string{name: pattern}})
	case star == len(pattern)-1 && pattern[star] == '*':
		return append(out, schemas.Filter{Prefix: map[string]string{name: pattern[:star]}})
	case star == 0 && pattern[0] == '*' && !strings.ContainsAny(pattern[1:], "*?"):
		return append(out, schemas.Filter{Suffix: map[string]string{name: pattern[1:]}})
	}
	return append(out, schemas.Filter{SQL: name + " LIKE '" + globToLike(pattern) + "'"})
}
