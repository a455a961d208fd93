package config

import (
	"encoding"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml"
)

// A Key documents one key.
type Key struct {
	Path, Env, Type, Default, Doc string
}

// Keys documents every key, in the order of their declaration, with its default in
// c. That of data_dir depends on the user and is left out.
func Keys(c Config) []Key {
	c.DataDir = ""
	var out []Key
	for _, k := range c.keys() {
		out = append(out, Key{Path: k.path, Env: k.env(), Type: typeName(k.value.Type()), Default: asText(k.value), Doc: k.doc})
	}
	return out
}

func typeName(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[Duration]():
		return "duration"
	case reflect.TypeFor[Size]():
		return "size"
	case reflect.TypeFor[Secret]():
		return "secret"
	case reflect.TypeFor[URL]():
		return "URL"
	case reflect.TypeFor[Network]():
		return "network"
	}
	switch t.Kind() {
	case reflect.Slice:
		return "list of " + typeName(t.Elem()) + "s"
	case reflect.Map:
		return "mapping"
	case reflect.Bool:
		return "boolean"
	case reflect.Float64:
		return "number"
	case reflect.String:
		return "string"
	default:
		return "integer"
	}
}

// asText is a value as it would be written in the environment.
func asText(v reflect.Value) string {
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		b, err := m.MarshalText()
		if err != nil {
			return err.Error()
		}
		return string(b)
	}
	switch v.Kind() {
	case reflect.Slice:
		var parts []string
		for i := range v.Len() {
			parts = append(parts, asText(v.Index(i)))
		}
		return strings.Join(parts, ",")
	case reflect.Map:
		if v.Len() == 0 {
			return ""
		}
	}
	return printed(v.Interface())
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
