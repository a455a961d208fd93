package sandbox

import (
	"bytes"
	"cmp"
	"os"
	"strconv"
	"time"
)

// Limits bound what a scan may cost. A zero field means that of [Defaults].
type Limits struct {
	// Timeout is how long one scan may take: one second more for every
	// 8 MiB of the layer.
	Timeout time.Duration
	// Memory is how many bytes a child may use: by default 2 GiB, or half of
	// what the machine or the container has, if that is less.
	Memory int64
	// Disk is how many bytes a child's temporary files may take.
	Disk int64
}

const (
	bytesPerSecond = 8 << 20 // of a layer, beyond Limits.Timeout
	maxFiles       = 256     // open at a time in a child
	maxStack       = 64 << 20
	minMemory      = 256 << 20
)

// Defaults are the limits where nothing else is asked for, but for the memory,
// which depends on the machine.
func Defaults() Limits { return Limits{Timeout: time.Minute, Disk: 8 << 30} }

func (l Limits) withDefaults() Limits {
	d := Defaults()
	l.Timeout = cmp.Or(max(l.Timeout, 0), d.Timeout)
	if l.Memory <= 0 {
		l.Memory = 2 << 30
		if all := machineMemory(); all > 0 {
			l.Memory = max(min(l.Memory, all/2), minMemory)
		}
	}
	l.Disk = cmp.Or(max(l.Disk, 0), d.Disk)
	return l
}

// timeout is how long a scan of a layer of so many bytes may take.
func (l Limits) timeout(size int64) time.Duration {
	return l.Timeout + time.Duration(size/bytesPerSecond)*time.Second
}

// machineMemory is what the container may use, or what the machine has; 0 if
// neither is known.
func machineMemory() int64 {
	all := int64(0)
	for _, file := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		if n := number(file); n > 0 && (all == 0 || n < all) {
			all = n
		}
	}
	info, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return all
	}
	if _, rest, ok := bytes.Cut(info, []byte("MemTotal:")); ok {
		if f := bytes.Fields(rest); len(f) > 0 {
			if kib, err := strconv.ParseInt(string(f[0]), 10, 64); err == nil && (all == 0 || kib<<10 < all) {
				all = kib << 10
			}
		}
	}
	return all
}

// number reads a file that holds one; 0 if it does not.
func number(file string) int64 {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(string(bytes.TrimSpace(b)), 10, 64)
	if err != nil {
		return 0
	}
	return n
}
