package image

import "testing"

// FuzzPlatforms holds the reader of platforms to an answer for every text.
func FuzzPlatforms(f *testing.F) {
	for _, seed := range []string{"linux/amd64", "all", "linux/arm64/v8", "a/b/c/d", "", "/"} {
		f.Add(seed)
	}
	f.Fuzz(func(_ *testing.T, spec string) { _, _ = parsePlatforms([]string{spec}) })
}
