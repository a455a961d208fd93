//go:build compose

package composetest

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A rootfs is the file system of an image, written as a tar as it is described.
// Its first error sticks.
type rootfs struct {
	w    *tar.Writer
	seen map[string]bool
	err  error
}

// imported makes an image of what fill describes, and notes what it was made from.
func imported(ctx context.Context, tag, made string, changes []string, fill func(*rootfs)) error {
	r, w := io.Pipe()
	args := []string{"import", "-m", "Stand-in for " + tag}
	for _, c := range append(changes, "LABEL "+standInLabel+"="+made) {
		args = append(args, "-c", c)
	}
	cmd := exec.CommandContext(ctx, "docker", append(args, "-", tag)...)
	cmd.Stdin = r
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		r.CloseWithError(io.ErrClosedPipe) // nobody reads any more
		done <- err
	}()
	fsys := &rootfs{w: tar.NewWriter(w), seen: map[string]bool{}}
	fill(fsys)
	err := errors.Join(fsys.err, fsys.w.Close())
	w.CloseWithError(err)
	if werr := <-done; werr != nil {
		return errors.Join(err, fmt.Errorf("docker import: %w: %s", werr, out.Bytes()))
	}
	return err
}

func (r *rootfs) add(h *tar.Header, content io.Reader) {
	h.Name = strings.TrimPrefix(path.Clean(h.Name), "/")
	if r.err != nil || h.Name == "." || r.seen[h.Name] {
		return
	}
	if dir := path.Dir(h.Name); dir != "." {
		r.dir(dir, 0o755, 0)
	}
	r.seen[h.Name] = true
	if h.Typeflag == tar.TypeDir {
		h.Name += "/"
	}
	if r.err = r.w.WriteHeader(h); r.err == nil && content != nil {
		_, r.err = io.Copy(r.w, content)
	}
}

func (r *rootfs) dir(name string, mode int64, uid int) {
	r.add(&tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode, Uid: uid, Gid: uid}, nil)
}

func (r *rootfs) file(name, content string, mode int64) {
	r.add(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(content))}, strings.NewReader(content))
}

// host copies a file of this machine, following links.
func (r *rootfs) host(from, to string) {
	if r.err != nil || r.seen[strings.TrimPrefix(path.Clean(to), "/")] {
		return
	}
	f, err := os.Open(from)
	if err != nil {
		r.err = err
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		r.err = err
		return
	}
	r.add(&tar.Header{Typeflag: tar.TypeReg, Name: to, Mode: int64(info.Mode().Perm()), Size: info.Size(), ModTime: info.ModTime()}, f)
}

// tree copies a directory of this machine without what skip names.
func (r *rootfs) tree(from, to string, skip func(rel string) bool) {
	if r.err != nil {
		return
	}
	r.err = filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(from, p)
		switch {
		case err != nil:
			return err
		case skip != nil && skip(rel):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.IsDir():
			r.dir(path.Join(to, rel), 0o755, 0)
		default:
			if info, err := os.Stat(p); err == nil && info.Mode().IsRegular() {
				r.host(p, path.Join(to, rel))
			}
		}
		return r.err
	})
}

// program copies an executable with the libraries that it is linked with.
func (r *rootfs) program(from, to string) {
	r.host(from, to)
	r.libraries(from)
}

func (r *rootfs) libraries(of string) {
	if r.err != nil {
		return
	}
	out, err := exec.Command("ldd", of).CombinedOutput()
	if err != nil {
		if strings.Contains(string(out), "not a dynamic executable") || strings.Contains(string(out), "statically linked") {
			return
		}
		r.err = fmt.Errorf("ldd %s: %w: %s", of, err, out)
		return
	}
	for line := range strings.Lines(string(out)) {
		for _, f := range strings.Fields(line) {
			if strings.HasPrefix(f, "/") {
				r.host(f, f)
			}
		}
	}
}

// shell adds Debian's busybox under the names of the commands.
func (r *rootfs) shell(busybox string) {
	r.program(busybox, "/bin/busybox")
	out, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		r.err = errors.Join(r.err, err)
		return
	}
	names := strings.Fields(string(out))
	slices.Sort(names)
	for _, n := range names {
		if n != "busybox" {
			r.add(&tar.Header{Typeflag: tar.TypeSymlink, Name: "/bin/" + n, Linkname: "/bin/busybox", ModTime: time.Unix(0, 0)}, nil)
		}
	}
	r.dir("/tmp", 0o1777, 0)
	r.file("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n", 0o644)
	r.file("/etc/passwd", "root:x:0:0:root:/:/bin/sh\npostgres:x:999:999::/var/lib/postgresql:/bin/sh\n", 0o644)
	r.file("/etc/group", "root:x:0:\npostgres:x:999:\n", 0o644)
}
