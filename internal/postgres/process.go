package postgres

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
)

// An identity is the user that the server's processes run as. The zero value
// is the present user.
type identity struct {
	uid, gid int
	other    bool // not the present user
}

// serverIdentity returns who the server shall run as: the present user, or an
// unprivileged one if that is root, whom PostgreSQL refuses.
func serverIdentity() (identity, error) {
	if os.Geteuid() != 0 {
		return identity{}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errUID := strconv.Atoi(u.Uid)
		gid, errGID := strconv.Atoi(u.Gid)
		if err := errors.Join(errUID, errGID); err != nil {
			return identity{}, fmt.Errorf("user %s: %w", name, err)
		}
		return identity{uid: uid, gid: gid, other: true}, nil
	}
	return identity{}, errors.New("PostgreSQL does not run as root and this system has neither a user postgres nor nobody (create one, or start Tocsin as an ordinary user)")
}

// own makes id the owner of path and all that is in it.
func (id identity) own(path string) error {
	if !id.other {
		return nil
	}
	return filepath.WalkDir(path, func(p string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(p, id.uid, id.gid)
	})
}

// command prepares one of the server's programs to run on the data directory.
// The directory is handed over as an open descriptor where the program runs as
// somebody else, since that user may not be allowed to walk down the path to
// it. Extra files follow it as descriptors 4 and up. The caller closes dir.
func (id identity) command(bin string, dir *os.File, extra []*os.File, args ...string) *exec.Cmd {
	path := dir.Name()
	if id.other {
		path = descriptorPath(3)
	}
	cmd := exec.Command(bin, append([]string{"-D", path}, args...)...)
	cmd.Dir = "/"
	cmd.ExtraFiles = append([]*os.File{dir}, extra...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "PGDATA=", "PGOPTIONS=")
	cmd.SysProcAttr = sysProcAttr(id)
	return cmd
}

// descriptorPath names an inherited descriptor as a path.
func descriptorPath(fd int) string {
	return descriptorDir + strconv.Itoa(fd)
}
