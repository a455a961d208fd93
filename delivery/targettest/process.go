package targettest

import (
	"os"
	"testing"

	"tocsin.dev/tocsin/delivery/targettest/node"
)

// Address is the loopback address with a port.
func Address(port int) string { return node.Address(port) }

// freePorts are n ports that nothing listened on a moment ago.
func freePorts(t testing.TB, n int) []int {
	t.Helper()
	ports, err := node.FreePorts(n)
	if err != nil {
		t.Fatal(err)
	}
	return ports
}

// tempDir is a directory for a server's data with a short name, removed when
// the test ends even if the server left files behind.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tt-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
