package subscription

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/internal/text"
	"tocsin.dev/tocsin/notifier/filter"
	"tocsin.dev/tocsin/schemas"
)

// Bounds on a subscription.
const (
	maxName      = 200
	maxKey       = 200
	maxText      = 1024 // of a label, the source
	maxPEM       = 64 << 10
	maxSecret    = 4096
	maxLabels    = 64
	maxSchedule  = 32
	maxTimeout   = 5 * time.Minute
	maxDelay     = 7 * 24 * time.Hour
	maxParallel  = 1000
	maxRate      = 100_000
	maxBatchSize = 1000
)

// checker collects what is wrong.
type checker struct {
	fields []problem.Field
}

func (c *checker) refuse(pointer, hint, detail string, args ...any) {
	c.fields = append(c.fields, problem.Field{Field: pointer, Message: fmt.Sprintf(detail, args...), Hint: hint})
}

// Compile compiles the filters of a subscription, its source and types checked
// too. The set is nil if anything is wrong; the fields say what.
func (st *Store) Compile(spec schemas.Subscription) (*filter.Set, []problem.Field) {
	c := &checker{}
	c.types(spec.Types)
	if !slices.Contains([]string{"", schemas.GranularityManifest, schemas.GranularityUpdate}, spec.Config.Granularity) {
		c.refuse("/config/granularity", "manifest or update", "is %q", clip(spec.Config.Granularity))
	}
	set, problems := st.Filters.Compile(spec.AllFilters())
	for _, p := range problems {
		if p.Pointer == fmt.Sprintf("/%d/exact/source", len(spec.Filters)) {
			c.refuse("/source", p.Hint, "%s", p.Detail)
			continue
		}
		c.refuse("/filters"+p.Pointer, p.Hint, "%s", p.Detail)
	}
	if len(c.fields) > 0 {
		return nil, c.fields
	}
	return set, nil
}

// validate returns everything that is wrong with a subscription before it is
// stored.
func (st *Store) validate(spec *schemas.Subscription) []problem.Field {
	c := &checker{}
	c.text("/name", spec.Name, maxName)
	c.text("/key", spec.Key, maxKey)
	c.text("/source", spec.Source, maxText)
	if len(spec.Labels) > maxLabels {
		c.refuse("/labels", "", "has %d labels, over the limit of %d", len(spec.Labels), maxLabels)
	}
	for k, v := range spec.Labels {
		c.text("/labels/"+escape(k), k, maxText)
		c.text("/labels/"+escape(k), v, maxText)
	}
	if _, fields := st.Compile(*spec); fields != nil {
		c.fields = append(c.fields, fields...)
	}
	if st.Sinks != nil {
		c.fields = append(c.fields, st.Sinks.Check(*spec)...)
	}
	c.credential(spec)
	c.config(spec)
	return c.fields
}

func (c *checker) types(types []string) {
	if len(types) > 64 {
		c.refuse("/types", "", "has %d types, over the limit of 64", len(types))
		return
	}
	for i, t := range types {
		if !slices.Contains(schemas.Types, t) {
			c.refuse(fmt.Sprintf("/types/%d", i), "types: "+strings.Join(schemas.Types, ", "), "there is no event type %q", clip(t))
		}
	}
}

// text refuses what is too long for a setting or could not be printed.
func (c *checker) text(pointer, s string, most int) bool {
	switch {
	case len(s) > most:
		c.refuse(pointer, "", "has %d bytes, over the limit of %d", len(s), most)
	case !utf8.ValidString(s):
		c.refuse(pointer, "", "is not valid UTF-8")
	case strings.ContainsFunc(s, unicode.IsControl):
		c.refuse(pointer, "", "has control characters")
	default:
		return true
	}
	return false
}

func escape(s string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(clip(s)) }

// clip keeps what is repeated to a client short.
func clip(s string) string { return text.Clip(strings.ToValidUTF8(s, ""), 64) }
