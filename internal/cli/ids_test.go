package cli

import (
	"strings"
	"testing"
)

func TestFind(t *testing.T) {
	t.Parallel()
	all := func() ([]thing, error) {
		return []thing{
			{"0198d1c4-0000-7000-8000-00000000aaaa", "urgent"}, {"0198d1c4-0000-7000-8000-00000000bbbb", "dead"},
			{"0198d1c5-0000-7000-8000-00000000cccc", ""}, {"0198d1c6-0000-7000-8000-00000000dead", "twice"}, {"0198d1c6-0000-7000-8000-00000000eeee", "twice"},
		}, nil
	}
	for meant, want := range map[string]string{
		"urgent": "aaaa", "0000AAAA": "aaaa", "0198d1c5": "cccc", "cccc": "cccc",
		"dead":                                 "bbbb", // a name goes before digits
		"0198d1c4-ffff-7000-8000-000000000000": "0000", // the server knows whether there is one
	} {
		if got, err := find("subscription", meant, all); err != nil || !strings.HasSuffix(got, want) {
			t.Errorf("%q is %s, %v; want …%s", meant, got, err, want)
		}
	}
	for meant, says := range map[string]string{"nosuch": "no subscription is called", "ccc": "no subscription", "0198d1c4": "any of 2", "twice": "any of 2"} {
		if got, err := find("subscription", meant, all); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q is %s, %v; want an error with %q", meant, got, err, says)
		}
	}
}
