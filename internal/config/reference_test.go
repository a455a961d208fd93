package config_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tocsin.dev/tocsin/internal/app"
	"tocsin.dev/tocsin/internal/config"
)

var update = flag.Bool("update", false, "write docs/configuration.md")

// The reference in the documentation is made from the keys themselves:
//
//	go test ./internal/config -run TestReference -update
func TestReference(t *testing.T) {
	t.Parallel()
	path := filepath.Join("..", "..", "docs", "configuration.md")
	want := reference()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/configuration.md is not what the keys say: run this test with -update")
	}
}

func reference() string {
	var b strings.Builder
	b.WriteString(`# Configuration

Nothing has to be configured: ` + "`tocsin serve`" + ` then runs everything on loopback, with a NATS server inside and, from the
PostgreSQL binaries of the machine, a private cluster in its data directory.

One YAML file (` + "`--config` or `TOCSIN_CONFIG`" + `) holds what differs. Every key is also an environment variable, which goes before
the file; flags go before both. In a variable a list is separated by commas and a mapping is YAML; an empty variable counts
as none. With ` + "`_FILE`" + ` behind the name of a secret or a URL, the variable names a file that holds it. Unknown keys are errors.
` + "`tocsin config check`" + ` says what is wrong, ` + "`tocsin config print`" + ` what is in force, without secrets.

Durations are written ` + "`10s`, `5m`, `1h30m`, `7d`" + `, sizes ` + "`512KiB`, `64MiB`, `4GiB`" + `.

<!-- made from internal/config; do not edit -->
`)
	section := ""
	for _, k := range config.Keys(app.Defaults()) {
		head, _, nested := strings.Cut(k.Path, ".")
		if !nested {
			head = "Server"
		}
		if head != section {
			section = head
			title := "`" + head + "`"
			if !nested {
				title = head
			}
			fmt.Fprintf(&b, "\n## %s\n\n| key | variable | kind | default | |\n|---|---|---|---|---|\n", title)
		}
		def := "`" + k.Default + "`"
		if k.Default == "" {
			def = ""
		}
		fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s | %s |\n", k.Path, k.Env, k.Type, def, k.Doc)
	}
	return b.String()
}
