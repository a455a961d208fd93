package osv

import (
	"regexp"
	"strings"
)

var separators = regexp.MustCompile(`[-_.]+`)

// NormalizePyPI makes a Python package's name the one by which PEP 503 compares
// them: lower case, runs of hyphens, underscores and dots become one hyphen.
func NormalizePyPI(name string) string {
	return separators.ReplaceAllString(strings.ToLower(name), "-")
}
