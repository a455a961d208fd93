//go:build unix

package sandbox

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

// dataSlack is what the Go runtime maps beyond what it uses.
const dataSlack = 512 << 20

// confine sets the limits of this process for good.
func confine(l Limits) error {
	limits := map[int]uint64{
		syscall.RLIMIT_CORE:   0,
		syscall.RLIMIT_NOFILE: maxFiles,
		syscall.RLIMIT_FSIZE:  uint64(l.Disk),
	}
	if !underRace { // the race detector maps all memory there is
		limits[syscall.RLIMIT_DATA] = uint64(l.Memory) + dataSlack
	}
	for what, n := range limits {
		var now syscall.Rlimit
		if err := syscall.Getrlimit(what, &now); err != nil {
			return fmt.Errorf("limit %d of a scanning process: %w", what, err)
		}
		n = min(n, now.Max) // nobody but root may have more
		if err := syscall.Setrlimit(what, &syscall.Rlimit{Cur: n, Max: n}); err != nil {
			return fmt.Errorf("set limit %d of a scanning process to %d: %w", what, n, err)
		}
	}
	// Of all processes of a container that is out of memory, this is the one to
	// end. Where that can't be said, nothing is lost.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0)
	return nil
}

// mayUse allows this process so much more processor time. It is a stop for a
// child whose parent is gone: parents have a clock.
func mayUse(d time.Duration) error {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return fmt.Errorf("processor time used: %w", err)
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CPU, &limit); err != nil {
		return fmt.Errorf("limit of processor time: %w", err)
	}
	limit.Cur = min(uint64(used.Utime.Sec+used.Stime.Sec)+uint64(d/time.Second)+1, limit.Max)
	if err := syscall.Setrlimit(syscall.RLIMIT_CPU, &limit); err != nil {
		return fmt.Errorf("set limit of processor time: %w", err)
	}
	return nil
}

// socketpair makes two connected sockets that other children don't inherit.
func socketpair() (ours, theirs *os.File, err error) {
	syscall.ForkLock.RLock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, fmt.Errorf("socket to a scanning process: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "parent"), os.NewFile(uintptr(fds[1]), "child"), nil
}

// sendFile hands an open file to the process at the other end.
func sendFile(to *net.UnixConn, f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = raw.Control(func(fd uintptr) {
		_, _, sent = to.WriteMsgUnix([]byte{1}, syscall.UnixRights(int(fd)), nil)
	})
	return errors.Join(err, sent)
}

// receiveFile takes what sendFile sent.
func receiveFile(from *net.UnixConn) (*os.File, error) {
	var b [1]byte
	oob := make([]byte, syscall.CmsgSpace(4))
	_, n, _, _, err := from.ReadMsgUnix(b[:], oob)
	if err != nil {
		return nil, fmt.Errorf("receive a layer: %w", err)
	}
	messages, err := syscall.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		return nil, fmt.Errorf("receive a layer: no file came: %w", err)
	}
	fds, err := syscall.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, fmt.Errorf("receive a layer: no file came: %w", err)
	}
	syscall.CloseOnExec(fds[0])
	return os.NewFile(uintptr(fds[0]), "layer"), nil
}

// ownGroup keeps a terminal's Ctrl-C from children, who end with their parent.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// deletedBytes is how many bytes an open file takes that is in no directory any
// more; none if it is the layer.
func deletedBytes(fi, layer os.FileInfo) int64 {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok || !fi.Mode().IsRegular() || st.Nlink > 0 || os.SameFile(fi, layer) {
		return 0
	}
	return st.Blocks * 512
}
