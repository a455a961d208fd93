package updater

import (
	"strings"
	"testing"
)

func TestRequestsAreRefusedInWordsForPeople(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`[]`:                         `expected an object like {"set":"osv"}, or {} for all, got JSON of type array`,
		`"osv"`:                      `expected an object like {"set":"osv"}, or {} for all, got JSON of type string`,
		`{"set":7}`:                  `expected an object like {"set":"osv"}, or {} for all; "set" is of JSON type number`,
		`{"sets":["osv"]}`:           `expected an object like {"set":"osv"}, or {} for all: unknown field "sets"`,
		`osv`:                        `invalid character 'o'`,
		`{"set":"osv"}{"set":"kev"}`: `there is more after it`,
	} {
		_, err := parseRequest([]byte(body))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", body, err, want)
		} else if strings.Contains(err.Error(), "Go ") {
			t.Errorf("%s: %v", body, err)
		}
	}
}
