package config

import (
	"encoding"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
)

// others are variables with our prefix that are not keys of the configuration.
var others = []string{"TOCSIN_CONFIG", "TOCSIN_SERVER", "TOCSIN_TOKEN", "TOCSIN_TOKEN_FILE"}

// serviceLink matches the variables that Kubernetes and Docker set in a container
// for a service whose name begins with tocsin, such as TOCSIN_SERVICE_HOST and
// TOCSIN_PORT_6060_TCP_ADDR. Nobody meant them for us.
var serviceLink = regexp.MustCompile(`^TOCSIN_([A-Z0-9_]+_)?(SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

// environment reads the keys that environ has over c. An empty variable counts
// as none.
func (c *Config) environment(environ []string) (warnings []string, err error) {
	byEnv := map[string]key{}
	for _, k := range c.keys() {
		byEnv[k.env()] = k
	}
	environ = slices.Sorted(slices.Values(environ))
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, "TOCSIN_") || value == "" || slices.Contains(others, name) || strings.HasPrefix(name, "TOCSIN_TEST_") {
			continue
		}
		k, ok := byEnv[name]
		if base, isFile := strings.CutSuffix(name, "_FILE"); !ok && isFile {
			if k, ok = byEnv[base]; ok && confidential(k.value.Type()) {
				if slices.ContainsFunc(environ, func(e string) bool { return strings.HasPrefix(e, base+"=") && len(e) > len(base)+1 }) {
					return nil, fmt.Errorf("%s and %s are both set: unset one of them (an empty one counts as unset)", base, name)
				}
				b, err := readFile(value)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", name, err)
				}
				value = string(b)
			} else {
				ok = false
			}
		}
		if !ok && serviceLink.MatchString(name) {
			continue
		}
		if !ok {
			warnings = append(warnings, fmt.Sprintf("the environment variable %s is not a key of the configuration", name))
			continue
		}
		if err := set(k.value, value); err != nil {
			if confidential(k.value.Type()) {
				return nil, fmt.Errorf("%s (%s): not a valid value", name, k.path)
			}
			return nil, fmt.Errorf("%s (%s): %w", name, k.path, err)
		}
	}
	return warnings, nil
}

func confidential(t reflect.Type) bool {
	return t == reflect.TypeFor[Secret]() || t == reflect.TypeFor[URL]() || t == reflect.TypeFor[[]Secret]()
}

// set reads s into v.
func set(v reflect.Value, s string) error {
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(s))
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(s)
	case reflect.Bool:
		b, err := strconv.ParseBool(s)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", s)
		}
		v.SetBool(b)
	case reflect.Int, reflect.Int32, reflect.Int64:
		n, err := strconv.ParseInt(s, 10, v.Type().Bits())
		if err != nil {
			return fmt.Errorf("%q is not an integer", s)
		}
		v.SetInt(n)
	case reflect.Float64:
		f, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return fmt.Errorf("%q is not a number", s)
		}
		v.SetFloat(f)
	case reflect.Slice:
		parts := strings.Split(s, ",")
		list := reflect.MakeSlice(v.Type(), len(parts), len(parts))
		for i, p := range parts {
			if err := set(list.Index(i), strings.TrimSpace(p)); err != nil {
				return err
			}
		}
		v.Set(list)
	case reflect.Map:
		m := reflect.New(v.Type())
		if err := yaml.UnmarshalWithOptions([]byte(s), m.Interface(), yaml.Strict()); err != nil {
			return fmt.Errorf("not a mapping (YAML): %s", yaml.FormatError(err, false, false))
		}
		v.Set(m.Elem())
	default:
		return fmt.Errorf("no value of kind %s can be set", v.Kind())
	}
	return nil
}
