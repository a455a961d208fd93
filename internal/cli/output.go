package cli

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"tocsin.dev/tocsin/internal/terminal"
	"tocsin.dev/tocsin/schemas"
)

// print writes v as JSON with --output json, or calls human.
func (e *env) print(v any, human func() error) error {
	if !e.json {
		return human()
	}
	enc := json.NewEncoder(e.out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("writing the result: %w", err)
	}
	return nil
}

// table writes a table, or says that there is nothing.
func (e *env) table(t *terminal.Table, nothing string) error {
	if t.Len() == 0 {
		e.notef("%s", nothing)
		return nil
	}
	t.Fit(e.width)
	return t.Write(e.out, e.style)
}

func (e *env) printf(format string, args ...any) error {
	_, err := fmt.Fprintf(e.out, format, args...)
	return err
}

// ago is a cell with how long ago something was.
func (e *env) ago(t *time.Time) string { return terminal.Ago(e.now(), t) }

func (e *env) state(s string) terminal.Cell {
	return terminal.Cell{Text: s, Paint: func(string) string { return e.style.State(s) }}
}

func (e *env) severity(s string) terminal.Cell {
	return terminal.Cell{Text: s, Paint: func(t string) string { return e.style.Severity(s, t) }}
}

// counts is "2 critical, 5 high", or "none".
func counts(n schemas.BySeverity) string {
	var out []string
	for i, c := range []int{n.Critical, n.High, n.Medium, n.Low, n.Negligible, n.Unknown} {
		if c > 0 {
			out = append(out, fmt.Sprintf("%d %s", c, strings.ToLower(schemas.SeverityNames[len(schemas.SeverityNames)-1-i])))
		}
	}
	if out == nil {
		return "none"
	}
	return strings.Join(out, ", ")
}

// moment reads a time: RFC 3339, a date, a time of today, or how long ago.
func moment(now time.Time, s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d.Abs()), nil
	}
	switch s {
	case "today":
		s = "00:00"
	case "noon":
		s = "12:00"
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	if t, err := time.ParseInLocation("15:04", s, time.Local); err == nil {
		y, m, d := now.Local().Date()
		return time.Date(y, m, d, t.Hour(), t.Minute(), 0, 0, time.Local), nil
	}
	return time.Time{}, usage("%q is not a time: write 2h, 14:30, noon, 2026-11-23 or 2026-11-23T14:30:00Z", s)
}

// severityName finds a normalized severity, however it is written.
func severityName(s string) (string, error) {
	for _, n := range schemas.SeverityNames {
		if strings.EqualFold(n, s) {
			return n, nil
		}
	}
	return "", usage("%q is no severity: they are %s", s, strings.ToLower(strings.Join(schemas.SeverityNames[:], ", ")))
}
