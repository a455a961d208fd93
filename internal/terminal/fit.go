package terminal

import (
	"io"
	"os"
	"strconv"
	"unicode/utf8"

	"golang.org/x/term"
)

// leastColumn is how narrow a column may become, unless what is in it is narrower.
const leastColumn = 8

// Width is how many columns w has if it is a terminal, as COLUMNS or the terminal
// says; 0 for anything else.
func Width(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok || !Interactive(w) {
		return 0
	}
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n > 0 {
		return n
	}
	if n, _, err := term.GetSize(int(f.Fd())); err == nil && n > 0 {
		return n
	}
	return 0
}

// Fit has the table take at most width columns, as far as that can be: the widest
// cells are cut. 0 is as wide as it is.
func (t *Table) Fit(width int) { t.width = width }

// fit narrows the widest columns until they and the gaps between them fit.
func (t *Table) fit(widths []int) {
	if t.width == 0 {
		return
	}
	for {
		total, widest := 0, -1
		for i, n := range widths {
			if n == 0 {
				continue
			}
			total += n + 2
			if n > max(leastColumn, utf8.RuneCountInString(t.head[i])) && (widest < 0 || n > widths[widest]) {
				widest = i
			}
		}
		if total-2 <= t.width || widest < 0 {
			return
		}
		widths[widest]--
	}
}
