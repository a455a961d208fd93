//go:build !linux

package postgrestest

// room returns the free space in dir, in bytes; 0 if it cannot be used.
func room(string) uint64 { return 0 }
