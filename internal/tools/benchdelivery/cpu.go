package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// cpu is processor time by who used it. Unlike the rates, it hardly depends on
// what else the machine does.
type cpu struct{ self, sinks, postgres time.Duration }

// usage reads what this process, the sinks and PostgreSQL have used so far,
// from /proc; elsewhere than on Linux it is zero.
func (b *bench) usage() cpu {
	self := os.Getpid()
	c := cpu{self: used(self, false), sinks: used(b.sinks.cmd.Process.Pid, false)}
	if pid, err := postmaster(b.dir + "/postgres"); err == nil {
		c.postgres = used(pid, true)
	}
	return c
}

func (c cpu) since(before cpu) cpu {
	return cpu{c.self - before.self, c.sinks - before.sinks, c.postgres - before.postgres}
}

// per says what one of n took.
func (c cpu) per(n int) string {
	us := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(max(n, 1)) }
	return fmt.Sprintf("%.0f µs (client %.0f, sinks %.0f, PostgreSQL %.0f)", us(c.self+c.sinks+c.postgres), us(c.self), us(c.sinks), us(c.postgres))
}

// used is the processor time of a process, with that of its children, ended
// and living, if tree is set.
func used(pid int, tree bool) time.Duration {
	total, _ := stat(pid, tree)
	if !tree {
		return total
	}
	paths, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return total
	}
	for _, p := range paths {
		child, err := strconv.Atoi(filepath.Base(p))
		if err != nil {
			continue
		}
		if d, parent := stat(child, true); parent == pid {
			total += d
		}
	}
	return total
}

// stat reads a process's times and parent from /proc (proc(5), in hundredths
// of a second).
func stat(pid int, ended bool) (time.Duration, int) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0
	}
	// The name may hold anything, but ends with the last parenthesis.
	_, rest, _ := strings.Cut(string(text[strings.LastIndexByte(string(text), ')')+1:]), " ")
	f := strings.Fields(rest)
	if len(f) < 15 {
		return 0, 0
	}
	number := func(i int) int {
		n, _ := strconv.Atoi(f[i])
		return n
	}
	ticks := number(11) + number(12)
	if ended {
		ticks += number(13) + number(14)
	}
	return time.Duration(ticks) * 10 * time.Millisecond, number(1)
}

// postmaster is the process id of a private cluster's server.
func postmaster(dir string) (int, error) {
	text, err := os.ReadFile(dir + "/data/postmaster.pid")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return strconv.Atoi(strings.TrimSpace(line))
}
