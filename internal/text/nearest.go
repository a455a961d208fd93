package text

import (
	"strings"

	"github.com/agnivade/levenshtein"
)

// nearestLimit bounds what Nearest compares, in bytes.
const nearestLimit = 200

// Nearest returns the one of among that somebody who wrote value most likely
// meant: the same but for upper and lower case, at most a third of its letters
// apart, or beginning with it. It is "" if none is like it.
func Nearest(value string, among []string) string {
	v := strings.ToLower(strings.TrimSpace(value))
	if v == "" || len(v) > nearestLimit {
		return ""
	}
	best, distance := "", len(v)/3+1
	prefixed := ""
	for _, a := range among {
		l := strings.ToLower(a)
		if len(l) > nearestLimit {
			continue
		}
		if d := levenshtein.ComputeDistance(v, l); d < distance {
			best, distance = a, d
		}
		if prefixed == "" && strings.HasPrefix(l, v) {
			prefixed = a
		}
	}
	if best == "" {
		return prefixed
	}
	return best
}

// DidYouMean is a hint at the nearest of among, or "" if none is like value.
func DidYouMean(value string, among []string) string {
	if n := Nearest(value, among); n != "" {
		return `did you mean "` + n + `"?`
	}
	return ""
}
