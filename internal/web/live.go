package web

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
)

const (
	// livePause is between two looks for new events, liveLife how long a browser
	// is told of them before it has to ask again.
	livePause = 2 * time.Second
	liveLife  = 10 * time.Minute
	// maxLive is how many browsers are told of events as they come, and maxLiveOfOne
	// how many of them with one token; others have to load the page again.
	maxLive      = 200
	maxLiveOfOne = 10
)

// liveness counts who is told of events as they come, in all and by token.
type liveness struct {
	mu  sync.Mutex
	all int
	of  map[string]int
}

// join takes a place for a token, if there is one.
func (l *liveness) join(token string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all >= maxLive || l.of[token] >= maxLiveOfOne {
		return false
	}
	l.all++
	l.of[token]++
	return true
}

func (l *liveness) leave(token string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if l.of[token]--; l.of[token] == 0 {
		delete(l.of, token)
	}
}

// live tells a browser of events as they come, as server-sent events whose data
// are rows of the table. It ends with the session.
func (v *visit) live() error {
	if !v.site.live.join(v.who.Token) {
		return &problem{Status: http.StatusServiceUnavailable, Detail: "Too many pages are open; load this one again to see what is new."}
	}
	defer v.site.live.leave(v.who.Token)
	last := v.r.Header.Get("Last-Event-ID")
	if last == "" {
		last = v.r.URL.Query().Get("after")
	}
	v.w.Header().Set("Content-Type", "text/event-stream")
	rc := http.NewResponseController(v.w)
	end, tick := time.NewTimer(liveLife), time.NewTicker(livePause)
	defer end.Stop()
	defer tick.Stop()
	for {
		if on, err := v.Sessions.GoesOn(v.r.Context(), v.formKey); !on || err != nil {
			return nil // the browser asks again, and logs in
		}
		rows, newest, err := v.since(last)
		if err != nil {
			return nil // the browser asks again
		}
		last = newest
		if _, err := v.w.Write([]byte(rows + ": \n\n")); err != nil || rc.Flush() != nil {
			return nil // nobody is there any more
		}
		select {
		case <-tick.C:
		case <-end.C:
			return nil
		case <-v.Stopping:
			return nil
		case <-v.r.Context().Done():
			return nil
		}
	}
}

// since are the events after the one with the id last, at most 50, as server-sent
// events, and the id of the newest. While there is nothing new, it reads one event.
func (v *visit) since(last string) (rows, newest string, err error) {
	var list v1.Page[event]
	if err := v.get("/events", url.Values{"limit": {"1"}}, &list); err != nil {
		return "", last, err
	}
	if len(list.Items) == 0 || list.Items[0].ID <= last { // ids are in the order of time
		return "", last, nil
	}
	if err := v.get("/events", url.Values{"limit": {"50"}}, &list); err != nil {
		return "", last, err
	}
	var b strings.Builder
	for _, e := range slices.Backward(list.Items) {
		if e.ID <= last {
			continue
		}
		row, err := v.fragment("event-row", e)
		if err != nil {
			return "", last, err
		}
		last = e.ID
		b.WriteString("id: " + e.ID + "\ndata: " + strings.Join(strings.Fields(row), " ") + "\n\n")
	}
	return b.String(), last, nil
}
