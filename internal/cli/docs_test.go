package cli

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
)

const root = "../.."

// documents are the texts for users.
func documents(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob(root + "/docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, f := range append(files, root+"/README.md") {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out[f] = string(b)
	}
	if len(out) < 6 {
		t.Fatalf("only %d documents", len(out))
	}
	return out
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// TestDocumentsLinkToWhatIsThere follows every link to a file.
func TestDocumentsLinkToWhatIsThere(t *testing.T) {
	t.Parallel()
	for file, text := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			target, _, _ := strings.Cut(m[1], "#")
			if target == "" || strings.Contains(target, "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), target)); err != nil {
				t.Errorf("%s links to %s: %v", file, m[1], err)
			}
		}
	}
}

// TestDocumentedCommandsParse reads every tocsin command in the documents and
// in the help texts as the program would.
func TestDocumentedCommandsParse(t *testing.T) {
	t.Parallel()
	n := 0
	for file, text := range documents(t) {
		n += parseAll(t, file, shellLines(text))
	}
	if n < 30 {
		t.Errorf("only %d commands in the documents", n)
	}
	var c commands
	parser, err := newParser(&c, Streams{Out: io.Discard, Err: io.Discard}, func(int) {}, v1.Version{})
	if err != nil {
		t.Fatal(err)
	}
	n = parseAll(t, "about", strings.Split(about, "\n"))
	for _, leaf := range parser.Model.Leaves(false) {
		n += parseAll(t, leaf.Path()+" --help", strings.Split(help(leaf), "\n"))
	}
	if n < 30 {
		t.Errorf("only %d commands in the help texts", n)
	}
}

func help(n *kong.Node) string { return n.Detail }

// shellLines are the lines of a text's shell blocks.
func shellLines(text string) []string {
	var out []string
	in := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "```") {
			in = line == "```sh"
			continue
		}
		if in {
			out = append(out, line)
		}
	}
	return out
}

// parseAll parses the tocsin commands in lines and returns how many there were.
func parseAll(t *testing.T, where string, lines []string) int {
	t.Helper()
	n := 0
	for _, line := range lines {
		for _, words := range commandsIn(line) {
			n++
			var c commands
			helped := false
			p, err := newParser(&c, Streams{Out: io.Discard, Err: io.Discard}, func(int) { helped = true }, v1.Version{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := p.Parse(words); err != nil && !helped {
				t.Errorf("%s: %s: %v", where, strings.TrimSpace(line), err)
			}
		}
	}
	return n
}

// commandsIn finds the arguments of tocsin commands in a shell line: at its
// start and after pipes, up to a comment or two spaces of explanation.
func commandsIn(line string) [][]string {
	var all [][]string
	var words []string
	var word strings.Builder
	quote, started, spaces := rune(0), false, 0
	end := func() {
		if started {
			words = append(words, word.String())
			word.Reset()
			started = false
		}
	}
	flush := func() {
		end()
		if len(words) > 1 && words[0] == "tocsin" {
			all = append(all, words[1:])
		}
		words = nil
	}
	for _, r := range strings.TrimSpace(line) {
		switch {
		case quote != 0:
			if r == quote {
				quote = 0
			} else {
				word.WriteRune(r)
			}
		case r == '\'' || r == '"':
			quote, started = r, true
		case r == ' ':
			if spaces++; spaces == 2 { // an explanation follows
				flush()
				return all
			}
			end()
			continue
		case r == '|' || r == ';':
			flush()
		case (r == '#' || r == '>') && !started: // a comment, or where the output goes
			flush()
			return all
		default:
			word.WriteRune(r)
			started = true
		}
		spaces = 0
	}
	flush()
	return all
}
