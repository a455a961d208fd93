package config

import (
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml"
)

// Print writes c as YAML that Load reads, with placeholders for secrets.
func (c Config) Print(w io.Writer) error {
	for _, k := range c.keys() {
		if m, ok := k.value.Interface().(Foreign); ok {
			k.value.Set(reflect.ValueOf(Foreign(redactMap(m))))
		}
	}
	b, err := yaml.MarshalWithOptions(c, yaml.Indent(2), yaml.IndentSequence(true))
	if err != nil {
		return fmt.Errorf("print configuration: %w", err)
	}
	_, err = w.Write(b)
	return err
}

// Foreign holds keys that claircore knows and this package does not. It shows
// itself without what looks secret.
type Foreign map[string]any

// String is the mapping without what looks secret.
func (f Foreign) String() string { return fmt.Sprint(redactMap(f)) }

// GoString is String.
func (f Foreign) GoString() string { return f.String() }

// LogValue is String.
func (f Foreign) LogValue() slog.Value { return slog.StringValue(f.String()) }

// redactMap copies a mapping of somebody else's keys without what looks secret.
func redactMap(m map[string]any) map[string]any {
	if m == nil {
		return nil
	}
	out := make(map[string]any, len(m))
	for k, v := range m {
		if sensitive(k) {
			out[k] = redacted
			continue
		}
		out[k] = redactValue(v)
	}
	return out
}

func redactValue(v any) any {
	switch v := v.(type) {
	case map[string]any:
		return redactMap(v)
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = redactValue(e)
		}
		return out
	case string:
		if strings.Contains(v, "://") {
			return redactURL(v)
		}
	}
	return v
}

// printed is a scalar as YAML.
func printed(v any) string {
	b, err := yaml.Marshal(v)
	if err != nil {
		return err.Error()
	}
	s := strings.TrimSpace(string(b))
	if s == `""` {
		return ""
	}
	return s
}
