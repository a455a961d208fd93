package sandbox

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

const (
	watchEvery = 100 * time.Millisecond
	diskEvery  = 5 // times watchEvery
)

// watch keeps an eye on what a child at work uses, and ends it when that is too
// much. The kernel's limits alone don't do: none is on all files together, and
// the one on memory is generous.
func (p *process) watch(ctx context.Context, layer os.FileInfo) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-p.done:
			return
		case <-tick.C:
		}
		if used := resident(p.cmd.Process.Pid); used > p.limits.Memory {
			p.kill(fmt.Sprintf("it takes more than %d MiB of memory", p.limits.Memory>>20), false)
			return
		}
		if n%diskEvery == 0 && p.diskUsed(layer) > p.limits.Disk {
			p.kill(fmt.Sprintf("it writes more than %d MiB to disk", p.limits.Disk>>20), false)
			return
		}
	}
}

// resident is how many bytes of memory a process has; 0 where nobody says.
func resident(pid int) int64 {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return 0
	}
	f := bytes.Fields(b)
	if len(f) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(string(f[1]), 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

// diskUsed is how many bytes the child's temporary files have, those included
// that it has removed but not closed.
func (p *process) diskUsed(layer os.FileInfo) (sum int64) {
	_ = filepath.WalkDir(p.dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // it comes and goes
		}
		if fi, err := d.Info(); err == nil && fi.Mode().IsRegular() {
			sum += fi.Size()
		}
		return nil
	})
	open := "/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/fd"
	list, err := os.ReadDir(open)
	if err != nil {
		return sum
	}
	for _, e := range list {
		if fi, err := os.Stat(filepath.Join(open, e.Name())); err == nil {
			sum += deletedBytes(fi, layer)
		}
	}
	return sum
}
