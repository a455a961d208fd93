package config

import (
	"fmt"
	"io"
	"log/slog"
	"reflect"

	"github.com/goccy/go-yaml"

	"tocsin.dev/tocsin/internal/text"
)

// Print writes c as YAML that Load reads, with placeholders for secrets.
func (c Config) Print(w io.Writer) error {
	for _, k := range c.keys() {
		if m, ok := k.value.Interface().(Foreign); ok {
			k.value.Set(reflect.ValueOf(Foreign(text.RedactMap(m))))
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
func (f Foreign) String() string { return fmt.Sprint(text.RedactMap(f)) }

// GoString is String.
func (f Foreign) GoString() string { return f.String() }

// LogValue is String.
func (f Foreign) LogValue() slog.Value { return slog.StringValue(f.String()) }
