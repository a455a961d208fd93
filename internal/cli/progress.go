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

// sayEvery is how often a wait that nobody sees the progress of is spoken of.
const sayEvery = 15 * time.Second

// saying tells a log or a pipe, where there is no line of progress, what a wait
// is for: after a few seconds, and then now and then.
type saying struct {
	e     *env
	since time.Time
	count int
}

func (s *saying) say(text string) {
	wait := sayEvery
	if s.count == 0 {
		wait = 3 * time.Second
	}
	if terminal.Interactive(s.e.err) || s.e.now().Sub(s.since) < wait {
		return
	}
	s.since, s.count = s.e.now(), s.count+1
	s.e.notef("%s", terminal.Clean(text))
}

// follow asks for a job until it has ended, and shows its progress.
func (e *env) follow(cl *client, job v1.Job) (v1.Job, error) {
	defer e.progressEnd()
	pause := 100 * time.Millisecond
	said := saying{e: e, since: e.now()}
	for !job.Done && !job.Failed {
		text := job.Progress
		if text == "" {
			text = job.State
		}
		if job.WaitingFor != "" {
			text = "waiting for " + job.WaitingFor
			said.say(job.Key + ": " + text)
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
