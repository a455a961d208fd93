package config

import (
	"reflect"
	"strings"
)

// A key is one leaf of a Config.
type key struct {
	path  string // "delivery.allow_networks"
	doc   string
	value reflect.Value // settable
}

// keys are the leaves of c, in the order of their declaration.
func (c *Config) keys() []key {
	return leaves("", reflect.ValueOf(c).Elem())
}

func leaves(prefix string, v reflect.Value) (out []key) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		path := prefix + f.Tag.Get("yaml")
		if doc := f.Tag.Get("doc"); doc != "" {
			out = append(out, key{path: path, doc: doc, value: v.Field(i)})
			continue
		}
		out = append(out, leaves(path+".", v.Field(i))...)
	}
	return out
}

// env is the name of the key's environment variable.
func (k key) env() string {
	return "TOCSIN_" + strings.ToUpper(strings.ReplaceAll(k.path, ".", "_"))
}
