package clairconfig

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// Result is a configuration of Clair as Tocsin has it.
type Result struct {
	// Config is the configuration, by section and key.
	Config map[string]any `json:"config"`
	// Subscribe are the commands that make the subscriptions, in words of a
	// shell. Passwords are not in them.
	Subscribe []string `json:"subscribe"`
	// Notes are about keys without a counterpart, and what else to look at.
	Notes []Note `json:"notes"`
}

// A Note is about one key, or about all if Path is empty.
type Note struct {
	Path string `json:"path,omitempty"`
	Text string `json:"text"`
}

// translation is a result in the making.
type translation struct {
	Result
	databases []string // connection strings
	disabled  bool     // updaters
	period    string
	sinks     map[kind]*subscription
}

// Translate reads a configuration of Clair, in YAML or JSON.
func Translate(text []byte) (*Result, error) {
	var doc map[string]any
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, errors.New(yaml.FormatError(err, false, false)) // without the source, which may hold secrets
	}
	if len(doc) == 0 {
		return nil, errors.New("has no keys")
	}
	t := &translation{
		Result: Result{Config: map[string]any{}, Subscribe: []string{}, Notes: []Note{}}, sinks: map[kind]*subscription{},
	}
	// Clair listens everywhere where nothing is configured, Tocsin on loopback.
	t.set("listen", ":6060")
	t.set("introspection", ":8089")
	given := map[string]any{}
	flatten("", doc, Keys(), given)
	for _, k := range Keys() {
		v, ok := given[k.Path]
		if !ok {
			continue
		}
		delete(given, k.Path)
		if k.apply == nil {
			t.note(k.Path, "no counterpart: %s", k.Why)
			continue
		}
		if err := k.apply(t, v); err != nil {
			return nil, fmt.Errorf("%s: %w", k.Path, err)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(given)) {
		t.note(path, "Clair 4.9 does not know this key")
	}
	t.finish()
	return &t.Result, nil
}

// flatten puts the values of a document into out by the paths of keys; paths
// that are no keys stand for themselves.
func flatten(path string, v any, keys []Key, out map[string]any) {
	m, ok := v.(map[string]any)
	for _, k := range keys {
		if k.Path == path || k.Path == path+".*" {
			if v != nil && (k.Path == path || len(m) > 0) {
				out[k.Path] = v
			}
			return
		}
	}
	if !ok {
		if v != nil {
			out[path] = v
		}
		return
	}
	for name, value := range m {
		flatten(strings.TrimPrefix(path+"."+name, "."), value, keys, out)
	}
}

func (t *translation) note(path, format string, args ...any) {
	t.Notes = append(t.Notes, Note{path, fmt.Sprintf(format, args...)})
}

// set gives a key of Tocsin's a value.
func (t *translation) set(path string, v any) {
	at := t.Config
	parts := strings.Split(path, ".")
	for _, p := range parts[:len(parts)-1] {
		next, ok := at[p].(map[string]any)
		if !ok {
			next = map[string]any{}
			at[p] = next
		}
		at = next
	}
	at[parts[len(parts)-1]] = v
}

func set(to string) func(*translation, any) error {
	return func(t *translation, v any) error {
		t.set(to, v)
		return nil
	}
}

// unlessZero leaves out what Clair takes for its default.
func unlessZero(to string) func(*translation, any) error {
	return func(t *translation, v any) error {
		if fmt.Sprint(v) != "0" {
			t.set(to, v)
		}
		return nil
	}
}

func logLevel(t *translation, v any) error {
	level := strings.ToLower(fmt.Sprint(v))
	switch level {
	case "debug-color":
		level = "debug"
	case "fatal", "panic":
		level = "error"
	}
	t.set("log.level", level)
	return nil
}

func connString(t *translation, v any) error {
	s := strings.TrimSpace(fmt.Sprint(v))
	if s == "" {
		return nil
	}
	if len(t.databases) == 0 {
		t.set("database.url", s)
	}
	if !slices.Contains(t.databases, s) {
		t.databases = append(t.databases, s)
	}
	return nil
}

func period(t *translation, v any) error {
	t.period = fmt.Sprint(v)
	return nil
}

func disableUpdaters(t *translation, v any) error {
	t.disabled = v == true
	return nil
}

func retention(t *translation, v any) error {
	n, err := number(v)
	switch {
	case err != nil:
		return err
	case n < 0:
		t.note("matcher.update_retention", "Clair keeps all update operations; Tocsin keeps 10 of each updater, and those that are still to be told of")
	case n < 2:
		t.set("matcher.retention", 10)
	default:
		t.set("matcher.retention", n)
	}
	return nil
}

func number(v any) (int64, error) {
	switch n := v.(type) {
	case int:
		return int64(n), nil
	case int64:
		return n, nil
	case uint64:
		return int64(min(n, 1<<31)), nil
	}
	return 0, fmt.Errorf("%v is not a number", v)
}

// finish adds what follows from several keys.
func (t *translation) finish() {
	switch {
	case t.disabled:
		t.set("updaters.schedules", map[string]any{"default": "off"})
	case t.period != "":
		t.set("updaters.schedules", map[string]any{"default": "@every " + t.period})
	}
	if m, _ := t.Config["matcher"].(map[string]any); m["cache_age"] == nil && t.period != "" {
		t.set("matcher.cache_age", t.period)
	}
	if n := len(t.databases); n > 1 {
		t.note("", "Clair has %d databases here; %s", n, whyOneDB)
	}
	t.subscriptions()
	if url, ok := t.Config["public_url"]; !ok {
		t.note("", "set public_url to the address that others reach this server by: links and callbacks are made of it")
	} else {
		t.note("", "public_url is %v, from Clair's callback", url)
	}
	t.note("", "Clair connects to any address. Tocsin keeps to the public internet unless a network is in indexer.allow_networks (registries and layers) or delivery.allow_networks (subscribers)")
}

// YAML is the configuration as a file, with the rest as comments.
func (r *Result) YAML() ([]byte, error) {
	body, err := yaml.MarshalWithOptions(r.Config, yaml.Indent(2), yaml.IndentSequence(true))
	if err != nil {
		return nil, fmt.Errorf("write the configuration: %w", err)
	}
	var b bytes.Buffer
	b.WriteString("# Made of a configuration of Clair by tocsin config from-clair. It may hold secrets: keep it to yourself.\n\n")
	b.Write(body)
	if len(r.Subscribe) > 0 {
		b.WriteString("\n# Subscriptions are not part of the configuration. Once the server runs:\n")
		for _, c := range r.Subscribe {
			b.WriteString("#   " + c + "\n")
		}
	}
	if len(r.Notes) > 0 {
		b.WriteString("\n# To look at:\n")
		for _, n := range r.Notes {
			if n.Path != "" {
				b.WriteString("# - " + n.Path + ": " + n.Text + "\n")
			} else {
				b.WriteString("# - " + n.Text + "\n")
			}
		}
	}
	return b.Bytes(), nil
}

// private reports whether a host is an address outside of the public internet.
func private(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && (ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast())
}
