package terminal

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Cell is one cell of a table: its text and how it is painted.
type Cell struct {
	Text  string
	Paint func(string) string // nil: as it is
}

// Table is rows of cells under a head, lined up by column.
type Table struct {
	head []string
	rows [][]Cell
	// width is how many columns it may take; 0 is as many as it needs.
	width int
}

// NewTable returns an empty table.
func NewTable(head ...string) *Table { return &Table{head: head} }

// Row adds a row. A value is a [Cell], or anything fmt prints; it is cleaned.
func (t *Table) Row(values ...any) {
	row := make([]Cell, len(values))
	for i, v := range values {
		c, ok := v.(Cell)
		if !ok {
			c = Cell{Text: fmt.Sprint(v)}
		}
		c.Text = Clean(c.Text)
		row[i] = c
	}
	t.rows = append(t.rows, row)
}

// Len is the number of rows.
func (t *Table) Len() int { return len(t.rows) }

// Write writes the table; a column that is empty in every row is left out.
func (t *Table) Write(w io.Writer, s Style) error {
	widths := make([]int, len(t.head))
	for _, row := range t.rows {
		for i, c := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(c.Text))
		}
	}
	last := 0
	for i, h := range t.head {
		if widths[i] > 0 {
			widths[i] = max(widths[i], utf8.RuneCountInString(h))
			last = i
		}
	}
	t.fit(widths)
	var b strings.Builder
	line := func(cell func(int) Cell) {
		for i := range t.head {
			if widths[i] == 0 {
				continue
			}
			c := cell(i)
			c.Text = Clip(c.Text, widths[i])
			text := c.Text
			if c.Paint != nil {
				text = c.Paint(text)
			}
			b.WriteString(text)
			if i < last {
				b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c.Text)+2))
			}
		}
		b.WriteByte('\n')
	}
	line(func(i int) Cell { return Cell{Text: t.head[i], Paint: s.Dim} })
	for _, row := range t.rows {
		line(func(i int) Cell {
			if i < len(row) {
				return row[i]
			}
			return Cell{}
		})
	}
	_, err := io.WriteString(w, b.String())
	return err
}
