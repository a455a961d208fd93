package text_test

import (
	"testing"

	"tocsin.dev/tocsin/internal/text"
)

func TestNearest(t *testing.T) {
	t.Parallel()
	states := []string{"pending", "delivered", "dead", "dropped"}
	for value, want := range map[string]string{
		"ded": "dead", "DEAD": "dead", "deliverd": "delivered", "drop": "dropped", "pend": "pending", "nosuch": "", "": "", "xx": "",
	} {
		if got := text.Nearest(value, states); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", value, got, want)
		}
	}
	if got := text.Nearest("osvv", []string{"oracle", "osv", "osv/go"}); got != "osv" {
		t.Errorf("Nearest(osvv) = %q", got)
	}
}
