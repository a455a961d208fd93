package postgres

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
)

const descriptorDir = "/proc/self/fd/"

// sysProcAttr puts the server in a process group of its own, so that Ctrl-C in
// a terminal does not take it away before its clients are done, and has the
// kernel ask it for a fast shutdown when Tocsin is killed.
func sysProcAttr(id identity) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGINT}
	if id.other {
		a.Credential = &syscall.Credential{Uid: uint32(id.uid), Gid: uint32(id.gid)}
	}
	return a
}

// servesDirectory reports whether the process pid works in dir, as a
// postmaster does in its data directory. Where the kernel does not let us look,
// it goes by the process's name and owner.
func servesDirectory(pid int, dir string) bool {
	want, err := os.Stat(dir)
	if err != nil {
		return false
	}
	proc := "/proc/" + strconv.Itoa(pid)
	got, err := os.Stat(proc + "/cwd")
	if !errors.Is(err, fs.ErrPermission) {
		return err == nil && os.SameFile(want, got)
	}
	name, err := os.ReadFile(proc + "/comm")
	if err != nil || strings.TrimSpace(string(name)) != "postgres" {
		return false
	}
	got, err = os.Stat(proc)
	return err == nil && got.Sys().(*syscall.Stat_t).Uid == want.Sys().(*syscall.Stat_t).Uid
}
