package httpapi

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"
)

// What makes progress may take as long as it takes; what does not is cut off.
const (
	// stall is how long a client may take for the next part of an upload or an
	// answer.
	stall = 30 * time.Second
	// uploadPart is how much of an upload has to come in that time, unless it ends.
	uploadPart = 64 << 10
	// answerPart is how much of an answer has to be taken in that time.
	answerPart = 256 << 10
)

// errTooSlow is why an upload is given up that trickles in.
var errTooSlow = errors.New("the upload is too slow: send at least 64 KiB every 30 seconds")

// uploadReader reads the body of an upload. It moves the read deadline on for every
// uploadPart that has come, not for every byte.
type uploadReader struct {
	rc    *http.ResponseController
	r     io.Reader
	stall time.Duration
	left  int // of the present part
}

func (u *uploadReader) Read(p []byte) (int, error) {
	if u.left <= 0 {
		u.left = uploadPart
		_ = u.rc.SetReadDeadline(time.Now().Add(u.stall)) // not every writer knows deadlines; those of tests don't
	}
	n, err := u.r.Read(p)
	u.left -= n
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = errors.Join(errTooSlow, err)
	}
	return n, err
}

// recorder notes what was answered, and bounds how long the client may take to
// read it.
type recorder struct {
	http.ResponseWriter
	rc     *http.ResponseController
	hasIn  bool // the request has a body
	stall  time.Duration
	status int
	bytes  int64
}

// refused are the statuses of requests whose body nobody is going to read.
func refused(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusForbidden || status == http.StatusTooManyRequests ||
		status == http.StatusRequestEntityTooLarge
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
		r.extend()
		if r.hasIn && refused(status) {
			// Else the server would read on before it answers, and after, in the
			// hope of another request on the connection.
			r.Header().Set("Connection", "close")
			_ = r.rc.SetReadDeadline(time.Now())
		}
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (n int, err error) {
	if r.status == 0 {
		r.WriteHeader(http.StatusOK)
	}
	for n < len(p) && err == nil {
		r.extend()
		var took int
		took, err = r.ResponseWriter.Write(p[n:min(n+answerPart, len(p))])
		n += took
	}
	r.bytes += int64(n)
	return n, err
}

// extend gives the client a while for the next part of the answer.
func (r *recorder) extend() { _ = r.rc.SetWriteDeadline(time.Now().Add(r.stall)) }

// Unwrap lets http.ResponseController through.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
