package updater

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/quay/claircore/libvuln/driver"
)

// Settings hold claircore's own configuration of sets and updaters: by the name
// of a set ("osv") or of one updater ("osv/go"), the keys that it takes.
type Settings map[string]any

// A reader hands one entry of the settings to claircore and remembers which of
// its keys anything asked for: a factory and an updater may share one entry and
// each know a part of the keys.
type reader struct {
	name  string
	entry map[string]json.RawMessage
	known map[string]bool
}

// open returns a reader of the entry with one of the given names; the empty
// entry if there is none.
func (s Settings) open(names ...string) (*reader, error) {
	r := &reader{name: names[0], entry: map[string]json.RawMessage{}, known: make(map[string]bool)}
	for _, n := range names {
		v, ok := s[n]
		if !ok || v == nil {
			continue
		}
		raw, err := json.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("updaters.config.%s: %w", n, err)
		}
		if err := json.Unmarshal(raw, &r.entry); err != nil {
			return nil, fmt.Errorf("updaters.config.%s: want keys and values, like {url: \"https://…\"}", n)
		}
		r.name = n
		if key, ok := directories[n]; ok {
			slash(r.entry, key)
		}
		break
	}
	return r, nil
}

// directories are the keys whose URL claircore resolves others against: without
// a slash at its end, it would lose the last part of the path.
var directories = map[string]string{"debian": "mirror_url", "rhel-vex": "url"}

func slash(entry map[string]json.RawMessage, key string) {
	var url string
	if json.Unmarshal(entry[key], &url) != nil || url == "" || strings.HasSuffix(url, "/") {
		return
	}
	// A string is always JSON.
	entry[key], _ = json.Marshal(url + "/")
}

// text returns the value of a key, if it is a string.
func (r *reader) text(key string) string {
	var s string
	_ = json.Unmarshal(r.entry[key], &s) // "" then
	return s
}

// unmarshal is the reader's [driver.ConfigUnmarshaler].
func (r *reader) unmarshal(v any) error {
	entry := maps.Clone(r.entry)
	if t := reflect.TypeOf(v); t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct {
		for f := range t.Elem().Fields() {
			name := tagged(f, "json")
			r.known[strings.ToLower(name)] = true
			// One of claircore's structs has another name in YAML.
			if other := tagged(f, "yaml"); other != name && entry[other] != nil {
				r.known[strings.ToLower(other)] = true
				entry[name] = entry[other]
			}
		}
	}
	raw, err := json.Marshal(entry)
	if err == nil {
		err = json.Unmarshal(raw, v)
	}
	if err != nil {
		return fmt.Errorf("updaters.config.%s: %w", r.name, err)
	}
	return nil
}

// tagged returns the name that a field has in the format.
func tagged(f reflect.StructField, format string) string {
	if name, _, _ := strings.Cut(f.Tag.Get(format), ","); name != "" {
		return name
	}
	return f.Name
}

// check reports the keys that nobody asked for.
func (r *reader) check() error {
	for _, k := range slices.Sorted(maps.Keys(r.entry)) {
		if r.known[strings.ToLower(k)] {
			continue
		}
		if len(r.known) == 0 {
			return fmt.Errorf("updaters.config.%s: unknown key %q: it takes no configuration", r.name, k)
		}
		return fmt.Errorf("updaters.config.%s: unknown key %q (it takes %s)", r.name, k, strings.Join(slices.Sorted(maps.Keys(r.known)), ", "))
	}
	return nil
}

// configure hands the settings to a factory or an updater, if it takes any.
func (r *reader) configure(ctx context.Context, target any, client *http.Client) error {
	c, ok := target.(driver.Configurable)
	if !ok {
		return nil
	}
	return c.Configure(ctx, r.unmarshal, client)
}

// validate checks the settings against the sets without any request: every name
// is a set's or can be an updater's, and a set's keys are ones that its factory
// or its only updater takes. Keys of updaters that a set discovers at run time
// are checked when they run.
func (s Settings) validate(ctx context.Context, sets []Set) error {
	for _, name := range slices.Sorted(maps.Keys(s)) {
		i := slices.IndexFunc(sets, func(set Set) bool { return set.called(name) })
		if i < 0 {
			if !slices.ContainsFunc(sets, func(set Set) bool { return set.owns(name) }) {
				return fmt.Errorf("updaters.config.%s: neither a set nor an updater (sets are %s; updaters look like osv/go or alpine-main-v3.20-updater)", name, strings.Join(setNames(sets), ", "))
			}
			continue
		}
		r, err := s.open(name)
		if err != nil {
			return err
		}
		f, err := sets[i].New(ctx)
		if err != nil {
			return fmt.Errorf("updater set %s: %w", name, err)
		}
		if err := r.configure(ctx, f, http.DefaultClient); err != nil {
			return err
		}
		// Where the set's updaters are known without asking anybody, their
		// keys count too: they are configured by the same entry if they
		// have the set's name.
		if set, err := offline(ctx, f, sets[i]); err == nil {
			for _, u := range set.Updaters() {
				if sets[i].called(u.Name()) {
					if err := r.configure(ctx, u, http.DefaultClient); err != nil {
						return err
					}
				}
			}
		}
		if err := r.check(); err != nil {
			return err
		}
	}
	return nil
}

// offline returns the updaters of a set whose discovery makes no request.
func offline(ctx context.Context, f driver.UpdaterSetFactory, s Set) (driver.UpdaterSet, error) {
	if len(s.Updaters) == 1 && s.called(s.Updaters[0]) {
		return f.UpdaterSet(ctx)
	}
	return driver.UpdaterSet{}, fmt.Errorf("updater set %s discovers its updaters at run time", s.Name)
}
