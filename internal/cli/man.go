package cli

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/alecthomas/kong"
)

type manCmd struct {
	Dir string `arg:"" optional:"" help:"Directory for one page a command; without it, tocsin(1) goes to standard output." predictor:"file"`
}

func (manCmd) Help() string {
	return "Examples:\n  tocsin man | man -l -\n  tocsin man /usr/local/share/man/man1"
}

func (c *manCmd) Run(e *env) error {
	var fresh commands // its help is what --help says, whatever was parsed
	parser, err := newParser(&fresh, Streams{In: e.in, Out: e.out, Err: e.err}, func(int) {}, e.actions.Version)
	if err != nil {
		return err
	}
	pages := manPages(parser.Model, e.actions.Version.Version)
	if c.Dir == "" {
		return e.printf("%s", pages["tocsin"])
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return fmt.Errorf("man pages: %w", err)
	}
	for name, text := range pages {
		if err := os.WriteFile(filepath.Join(c.Dir, name+".1"), []byte(text), 0o644); err != nil {
			return fmt.Errorf("man pages: %w", err)
		}
	}
	e.notef("Wrote %d pages to %s", len(pages), c.Dir)
	return nil
}

// manPages are the manual's pages by name, in roff: tocsin, tocsin-index, …
func manPages(app *kong.Application, version string) map[string]string {
	pages := map[string]string{}
	var write func(n *kong.Node, name string)
	write = func(n *kong.Node, name string) {
		var b strings.Builder
		manPage(&b, n, name, version)
		pages[name] = b.String()
		for _, child := range n.Children {
			if !child.Hidden {
				write(child, name+"-"+child.Name)
			}
		}
	}
	write(app.Node, app.Name)
	return pages
}

func manPage(w io.Writer, n *kong.Node, name, version string) {
	help := n.Help
	if n.Type == kong.ApplicationNode {
		help = "tell when a vulnerability feed changes what is known about container images"
	}
	fmt.Fprintf(w, ".TH %s 1 \"\" %s \"Tocsin\"\n", quote(strings.ToUpper(name)), quote("tocsin "+version))
	fmt.Fprintf(w, ".SH NAME\n%s \\- %s\n", roff(name), roff(strings.TrimSuffix(help, ".")))
	fmt.Fprintf(w, ".SH SYNOPSIS\n.B %s\n", roff(strings.ReplaceAll(name, "-", " ")))
	fmt.Fprintf(w, "%s\n", roff(strings.TrimSpace(strings.TrimPrefix(n.Summary(), n.Path()))))
	detail := n.Detail
	if n.Type == kong.ApplicationNode {
		detail = n.Help
	}
	if detail != "" {
		fmt.Fprintf(w, ".SH DESCRIPTION\n.nf\n%s\n.fi\n", roff(detail))
	}
	if len(n.Positional) > 0 {
		fmt.Fprint(w, ".SH ARGUMENTS\n")
		for _, p := range n.Positional {
			fmt.Fprintf(w, ".TP\n.I %s\n%s\n", roff(p.Summary()), roff(p.Help))
		}
	}
	if len(n.Children) > 0 {
		fmt.Fprint(w, ".SH COMMANDS\n")
		for _, c := range n.Children {
			if !c.Hidden {
				fmt.Fprintf(w, ".TP\n.BR %s (1)\n%s\n", roff(name+"-"+c.Name), roff(c.Help))
			}
		}
	}
	fmt.Fprint(w, ".SH OPTIONS\n")
	for _, group := range n.AllFlags(true) {
		for _, f := range group {
			fmt.Fprintf(w, ".TP\n.B %s\n%s\n", roff(f.String()), roff(flagHelp(f)))
		}
	}
	if n.Parent != nil {
		parent := name[:strings.LastIndex(name, "-")]
		fmt.Fprintf(w, ".SH SEE ALSO\n.BR %s (1)\n", roff(parent))
	}
}

func flagHelp(f *kong.Flag) string {
	text := f.Help
	if len(f.Envs) > 0 {
		text += " Environment: " + strings.Join(f.Envs, ", ") + "."
	}
	return text
}

// roff escapes text for troff: backslashes, hyphens that are minus signs, and
// lines that begin like a request.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	var ascii strings.Builder
	for _, r := range text {
		if r < utf8.RuneSelf {
			ascii.WriteRune(r)
		} else {
			fmt.Fprintf(&ascii, `\[u%04X]`, r)
		}
	}
	lines := strings.Split(ascii.String(), "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}

func quote(text string) string { return `"` + strings.ReplaceAll(roff(text), `"`, `\(dq`) + `"` }
