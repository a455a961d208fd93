package cli

import (
	"fmt"
	"net/http"
	"time"

	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/internal/terminal"
)

// progress shows what is going on, in one line that is written over; on
// anything but a terminal it shows nothing.
func (e *env) progress(format string, args ...any) {
	if terminal.Interactive(e.err) {
		fmt.Fprintf(e.err, "\r\x1b[K%s", e.notice.Dim(terminal.Clip(terminal.Clean(fmt.Sprintf(format, args...)), 110)))
	}
}

// progressEnd takes the line away.
func (e *env) progressEnd() {
	if terminal.Interactive(e.err) {
		fmt.Fprint(e.err, "\r\x1b[K")
	}
}

// follow asks for a job until it has ended, and shows its progress.
func (e *env) follow(cl *client, job v1.Job) (v1.Job, error) {
	defer e.progressEnd()
	pause := 100 * time.Millisecond
	for !job.Done && !job.Failed {
		text := job.Progress
		if text == "" {
			text = job.State
		}
		e.progress("%s: %s", job.Key, text)
		select {
		case <-e.ctx.Done():
			return job, e.ctx.Err()
		case <-time.After(pause):
		}
		pause = min(pause*3/2, time.Second)
		if err := cl.call(http.MethodGet, "/jobs/"+seg(job.ID), nil, nil, &job); err != nil {
			return job, err
		}
	}
	return job, nil
}
