package cli

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
)

// TestManPages makes a page of every command, and has groff read them where it is.
func TestManPages(t *testing.T) {
	t.Parallel()
	var c commands
	parser, err := newParser(&c, Streams{Out: new(bytes.Buffer), Err: new(bytes.Buffer)}, func(int) {}, v1.Version{Version: "1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	pages := manPages(parser.Model, "1.2.3")
	for name, has := range map[string][]string{
		"tocsin":                    {"tocsin\\-index", "TOCSIN_SERVER", `"tocsin 1.2.3"`},
		"tocsin-index":              {"\\-\\-wait", "kubectl get pods"},
		"tocsin-subscriptions-test": {"SEE ALSO"},
	} {
		for _, text := range has {
			if !strings.Contains(pages[name], text) {
				t.Errorf("the page %s does not have %q:\n%s", name, text, pages[name])
			}
		}
	}
	groff, err := exec.LookPath("groff")
	if err != nil {
		return
	}
	for name, text := range pages {
		cmd := exec.CommandContext(t.Context(), groff, "-man", "-Tutf8", "-ww", "-z")
		cmd.Stdin = strings.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("groff of %s: %v %s", name, err, out)
		}
	}
}
