package cli

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"tocsin.dev/tocsin/delivery/protocols"
	"tocsin.dev/tocsin/schemas"
)

// settingFlags is a pointer to a struct with one flag for each protocol
// setting that has one, for kong to embed. The fields' JSON names are the
// settings'.
func settingFlags() any {
	of := reflect.TypeFor[schemas.ProtocolSettings]()
	types := map[string]reflect.Type{}
	for f := range of.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		types[name] = f.Type
	}
	var fields []reflect.StructField
	for i, s := range protocols.Settings() {
		if s.Flag == "" {
			continue
		}
		help := s.Help
		if s.Values != nil {
			help += " One of " + strings.Join(s.Values, ", ") + "."
		}
		if s.Template {
			help += " {" + strings.Join(protocols.Placeholders(), "}, {") + "} are filled in."
		}
		if s.Protocols != nil {
			help += " For " + strings.Join(s.Protocols, ", ") + "."
		}
		tag := fmt.Sprintf(`json:"%s,omitempty" name:"%s" help:%q`, s.Name, s.Flag, help)
		if s.Placeholder != "" {
			tag += fmt.Sprintf(` placeholder:"%s"`, s.Placeholder)
		}
		fields = append(fields, reflect.StructField{Name: fmt.Sprintf("Setting%d", i), Type: types[s.Name], Tag: reflect.StructTag(tag)})
	}
	return reflect.New(reflect.StructOf(fields)).Interface()
}

// settingsFromFlags are the settings that such a struct holds.
func settingsFromFlags(flags any) (p schemas.ProtocolSettings) {
	text, err := json.Marshal(flags)
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	if err != nil {
		panic("cli: the flags of protocol settings: " + err.Error()) // the same types and names
	}
	return p
}

// sinkExamples are the sinks of all protocols, in form.
func sinkExamples() string {
	var all []string
	for _, p := range protocols.All() {
		all = append(all, p.Schemes[0]+"://…")
	}
	return strings.Join(all[:len(all)-1], ", ") + " or " + all[len(all)-1]
}
