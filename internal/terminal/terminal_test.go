package terminal_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"tocsin.dev/tocsin/internal/terminal"
)

func TestTableLinesUp(t *testing.T) {
	t.Parallel()
	tab := terminal.NewTable("NAME", "NOTHING", "N")
	tab.Row("a", "", 1)
	tab.Row("größer\x1b[31m\n", "", 23)
	var b bytes.Buffer
	if err := tab.Write(&b, terminal.Style{}); err != nil {
		t.Fatal(err)
	}
	want := "NAME         N\na            1\ngrößer[31m   23\n"
	if b.String() != want {
		t.Errorf("got\n%q, want\n%q", b.String(), want)
	}
}

func TestColourOnlyWhereWanted(t *testing.T) {
	t.Parallel()
	if got := (terminal.Style{}).Severity("Critical", "x"); got != "x" {
		t.Errorf("plain style wrote %q", got)
	}
	if got := (terminal.Style{Colour: true}).Severity("Critical", "x"); !strings.Contains(got, "\x1b[") {
		t.Errorf("colourful style wrote %q", got)
	}
	if terminal.StyleFor(&bytes.Buffer{}) != (terminal.Style{}) {
		t.Error("a buffer is not a terminal")
	}
}

func TestCleanLeavesNoControl(t *testing.T) {
	t.Parallel()
	in := "a\x1b]0;owned\x07b\r\nc\u202ed\u009b31me\u2028f"
	if got, want := terminal.Clean(in), "a]0;ownedb  cd31mef"; got != want {
		t.Errorf("Clean = %q, want %q", got, want)
	}
}

func TestAgo(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for d, want := range map[time.Duration]string{
		time.Second: "just now", 59 * time.Second: "59s ago", 90 * time.Minute: "1h ago",
		72 * time.Hour: "3d ago", -5 * time.Minute: "in 5m",
	} {
		at := now.Add(-d)
		if got := terminal.Ago(now, &at); got != want {
			t.Errorf("Ago(%s) = %q, want %q", d, got, want)
		}
	}
	if got := terminal.Ago(now, nil); got != "-" {
		t.Errorf("Ago(nil) = %q", got)
	}
}

func TestTableFits(t *testing.T) {
	t.Parallel()
	table := terminal.NewTable("ID", "ABOUT", "REASON")
	table.Row("0123456789", strings.Repeat("a", 60), strings.Repeat("b", 200))
	table.Row("1", "short", "")
	table.Fit(60)
	var out bytes.Buffer
	if err := table.Write(&out, terminal.Style{}); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 60 {
			t.Errorf("a line has %d columns: %s", n, line)
		}
	}
	if s := out.String(); !strings.Contains(s, "0123456789  ") || !strings.Contains(s, "aaa…") || !strings.Contains(s, "bbb…") {
		t.Errorf("cut wrongly:\n%s", s)
	}
}
