package postgrestest

import "syscall"

// room returns the free space in dir, in bytes; 0 if it cannot be used.
func room(dir string) uint64 {
	const w = 2 // W_OK
	var st syscall.Statfs_t
	if syscall.Access(dir, w) != nil || syscall.Statfs(dir, &st) != nil {
		return 0
	}
	return st.Bavail * uint64(st.Bsize)
}
