package ecosystem

import "testing"

// FuzzRelease holds the reader of os-release to an answer for every file.
func FuzzRelease(f *testing.F) {
	f.Add([]byte("ID=debian\nVERSION_ID=\"12\"\n"))
	f.Add([]byte("=\n\"'=x"))
	f.Fuzz(func(_ *testing.T, b []byte) { _ = parseLoosely(b) })
}
