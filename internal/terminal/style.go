package terminal

import (
	"io"
	"os"
	"strings"
	"unicode"

	"github.com/mattn/go-isatty"
)

// Style colours text, or leaves it alone.
type Style struct {
	Colour bool
}

// StyleFor decides by the NO_COLOR convention (no-color.org) and by whether w
// is a terminal.
func StyleFor(w io.Writer) Style {
	f, ok := w.(*os.File)
	return Style{Colour: ok && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && isatty.IsTerminal(f.Fd())}
}

// Interactive reports whether w is a terminal that a person watches.
func Interactive(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && os.Getenv("TERM") != "dumb" && isatty.IsTerminal(f.Fd())
}

func (s Style) paint(code, text string) string {
	if !s.Colour || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// Bold, Dim, Good, Bad and Warn are what they say.
func (s Style) Bold(t string) string { return s.paint("1", t) }
func (s Style) Dim(t string) string  { return s.paint("2", t) }
func (s Style) Good(t string) string { return s.paint("32", t) }
func (s Style) Bad(t string) string  { return s.paint("31", t) }
func (s Style) Warn(t string) string { return s.paint("33", t) }

// Severity colours text by a normalized severity.
func (s Style) Severity(normalized, text string) string {
	switch normalized {
	case "Critical":
		return s.paint("1;35", text)
	case "High":
		return s.paint("1;31", text)
	case "Medium":
		return s.paint("33", text)
	case "Low":
		return s.paint("36", text)
	}
	return s.paint("2", text)
}

// State colours text by what a state means: ended well, given up, or waiting.
func (s Style) State(state string) string {
	switch state {
	case "indexed", "done", "delivered", "active", "updated", "closed", "ok":
		return s.Good(state)
	case "failed", "dead", "disabled", "open", "rejected":
		return s.Bad(state)
	case "failing", "paused", "pending", "running", "half-open", "queued", "warning":
		return s.Warn(state)
	}
	return state
}

// Clean takes control characters out of text from elsewhere, line breaks
// included.
func Clean(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || unicode.Is(unicode.Cf, r):
			return -1
		}
		return r
	}, text)
}

// Clip cuts text to n runes, with an ellipsis where it was cut.
func Clip(text string, n int) string {
	r := []rune(text)
	if len(r) <= n {
		return text
	}
	return string(r[:max(n-1, 0)]) + "…"
}
