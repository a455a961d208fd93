package broker

import (
	"strings"
	"testing"
)

// FuzzTemplate holds templates to a reading or a refusal with its place.
func FuzzTemplate(f *testing.F) {
	for _, seed := range []string{"alerts.{severity}", "{type}{updater}", "{", "}", "{}", "{{a}}", strings.Repeat("{a}", 100)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if _, fields := ParseTemplate("subject", text); len(fields) > 0 && fields[0].Message == "" {
			t.Errorf("%q is refused without a reason", text)
		}
	})
}
