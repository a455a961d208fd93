//go:build unix && !linux

package postgres

import "syscall"

const descriptorDir = "/dev/fd/"

// sysProcAttr puts the server in a process group of its own, so that Ctrl-C in
// a terminal does not take it away before its clients are done.
func sysProcAttr(id identity) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setpgid: true}
	if id.other {
		a.Credential = &syscall.Credential{Uid: uint32(id.uid), Gid: uint32(id.gid)}
	}
	return a
}

// servesDirectory reports whether the process pid is alive; whose it is cannot
// be told here.
func servesDirectory(pid int, _ string) bool {
	return syscall.Kill(pid, 0) == nil
}
