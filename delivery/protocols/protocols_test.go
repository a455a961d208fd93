package protocols

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"tocsin.dev/tocsin/schemas"
)

func TestOf(t *testing.T) {
	t.Parallel()
	for sink, want := range map[string]string{
		"https://x": "HTTP", "HTTP://x": "HTTP", "amqps://x": "AMQP", "stomp+ssl://x": "STOMP", "nats://x": "NATS", "tls://x": "NATS", "gopher://x": "", "x": "",
	} {
		if got := Of(sink); got != want {
			t.Errorf("%s: %q, want %q", sink, got, want)
		}
	}
}

// TestEverySettingIsDeclared holds the API's object to what the protocols
// declare: each field is a setting of somebody, each setting a field.
func TestEverySettingIsDeclared(t *testing.T) {
	t.Parallel()
	var fields, declared []string
	for f := range reflect.TypeFor[schemas.ProtocolSettings]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		fields = append(fields, name)
	}
	flags := map[string]bool{}
	for _, s := range Settings() {
		declared = append(declared, s.Name)
		if s.Flag != "" && flags[s.Flag] {
			t.Errorf("two settings have the flag --%s", s.Flag)
		}
		flags[s.Flag] = true
	}
	slices.Sort(fields)
	slices.Sort(declared)
	if !slices.Equal(fields, declared) {
		t.Errorf("schemas.ProtocolSettings has %v, the protocols declare %v", fields, declared)
	}
}

func TestProtocolsAreApart(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, p := range All() {
		if p.Name != strings.ToUpper(p.Name) || p.Check == nil || p.New == nil || len(p.Modes) == 0 || Of(p.Sink) != p.Name {
			t.Errorf("%s is not declared in full", p.Name)
		}
		for _, s := range append([]string{p.Name}, p.Schemes...) {
			if seen[s] != "" {
				t.Errorf("%s and %s both have %q", seen[s], p.Name, s)
			}
			seen[s] = p.Name
		}
	}
}

var update = flag.Bool("update", false, "write the tables in docs/subscriptions.md anew")

const (
	begin = "<!-- made from delivery/protocols: begin -->\n"
	end   = "<!-- made from delivery/protocols: end -->"
)

// TestReference holds the tables of the documentation to the protocols.
func TestReference(t *testing.T) {
	t.Parallel()
	const path = "../../docs/subscriptions.md"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	was, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the tables", path)
	}
	if *update {
		if err := os.WriteFile(path, []byte(before+begin+reference()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if was != reference() {
		t.Errorf("%s does not have the tables of the protocols: run `make docs`", path)
	}
}

func reference() string {
	var b strings.Builder
	b.WriteString("| `protocol` | sink | schemes | modes | log in with | delivered when |\n|---|---|---|---|---|---|\n")
	for _, p := range All() {
		modes := make([]string, len(p.Modes))
		for i, m := range p.Modes {
			modes[i] = string(m)
		}
		fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s | %s | %s |\n",
			p.Name, p.Sink, strings.Join(p.Schemes, ", "), strings.Join(modes, ", "), strings.Join(p.Credentials, ", "), p.Delivered)
	}
	b.WriteString("\n| `protocolsettings.` | of | flag | |\n|---|---|---|---|\n")
	for _, s := range Settings() {
		of, flag, help := "all", "", s.Help
		if s.Protocols != nil {
			of = strings.Join(s.Protocols, ", ")
		}
		if s.Flag != "" {
			flag = "`--" + s.Flag + "`"
		}
		if s.Values != nil {
			help += " One of " + strings.Join(s.Values, ", ") + "."
		}
		if s.Template {
			help += " A template."
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", s.Name, of, flag, help)
	}
	return b.String()
}
