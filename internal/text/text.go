// Package text makes text from elsewhere fit to be kept and shown: valid UTF-8
// that PostgreSQL takes, cut between characters, without secrets.
//
// It guarantees that [Clean] and [Cut] return valid UTF-8 for every input, and
// that [Redact] is applied to its own result without a change. It does not
// guarantee that no secret passes: it knows logins in URLs, the names under which
// secrets commonly stand and the forms of common tokens. What is known to be
// secret belongs in a type that does not show it.
package text

import (
	"strings"
	"unicode/utf8"
)

// Clean makes s valid UTF-8 without NUL, which PostgreSQL can store: each run of
// other bytes and each NUL becomes U+FFFD.
func Clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// Cut returns at most the first n bytes of s, less where n is inside a character.
func Cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	n = max(n, 0)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// Clip is [Cut], with an ellipsis after a text that was cut.
func Clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return Cut(s, n) + "…"
}
