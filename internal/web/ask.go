package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// maxAnswer bounds what the API answers to one question of a page, in bytes.
const maxAnswer = 64 << 20

// problem is what the API answers when it refuses, as RFC 9457 has it.
type problem struct {
	Status int    `json:"status"`
	Title  string `json:"title"`
	Detail string `json:"detail"`
	Errors []struct {
		Location string `json:"location"`
		Message  string `json:"message"`
	} `json:"errors"`
}

func (p *problem) Error() string {
	text := p.Detail
	if text == "" {
		text = p.Title
	}
	for _, e := range p.Errors {
		text += "\n" + strings.TrimPrefix(e.Location, "body.") + ": " + e.Message
	}
	return text
}

// ask puts one question to the API, as whoever is logged in, and decodes the
// answer into out, if it is not nil. What the API refuses is a [*problem].
func (v *visit) ask(method, path string, query url.Values, in, out any) error {
	var body io.Reader = http.NoBody
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("write a request to the API: %w", err)
		}
		body = bytes.NewReader(b)
	}
	u := "/api/v1" + path
	if len(query) > 0 {
		u += "?" + query.Encode()
	}
	r, err := http.NewRequestWithContext(v.As(v.r.Context(), v.who), method, u, body)
	if err != nil {
		return fmt.Errorf("request to the API: %w", err)
	}
	r.Host, r.RemoteAddr = v.r.Host, v.r.RemoteAddr
	r.Header["X-Forwarded-For"] = v.r.Header.Values("X-Forwarded-For")
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	a := &answer{header: http.Header{}}
	v.API.ServeHTTP(a, r)
	switch {
	case a.tooLong:
		return fmt.Errorf("the API's answer to %s is longer than %d bytes", path, maxAnswer)
	case a.status/100 != 2:
		p := &problem{Status: a.status, Title: http.StatusText(a.status)}
		_ = json.Unmarshal(a.body.Bytes(), p) // the status says enough
		p.Status = a.status
		return p
	case out == nil || a.body.Len() == 0:
		return nil
	}
	if err := json.Unmarshal(a.body.Bytes(), out); err != nil {
		return fmt.Errorf("the API's answer to %s: %w", path, err)
	}
	return nil
}

func (v *visit) get(path string, query url.Values, out any) error {
	return v.ask(http.MethodGet, path, query, nil, out)
}

// allowed is like get, but leaves out as it is where the token may not ask.
func (v *visit) allowed(path string, query url.Values, out any) error {
	err := v.get(path, query, out)
	if p, ok := errors.AsType[*problem](err); ok && p.Status == http.StatusForbidden {
		return nil
	}
	return err
}

// answer keeps what the API writes.
type answer struct {
	header  http.Header
	status  int
	body    bytes.Buffer
	tooLong bool
}

// Header implements [http.ResponseWriter].
func (a *answer) Header() http.Header { return a.header }

// WriteHeader implements [http.ResponseWriter].
func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

// Write implements [http.ResponseWriter].
func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	if a.body.Len()+len(p) > maxAnswer {
		a.tooLong = true
		return 0, errors.New("the answer is too long for a page")
	}
	return a.body.Write(p)
}

// refuse answers an error: with the API's own words where it refused, without
// any detail of what went wrong inside.
func (v *visit) refuse(err error) {
	p, ok := errors.AsType[*problem](err)
	if !ok {
		if v.r.Context().Err() != nil {
			return // nobody is there any more
		}
		v.Log.ErrorContext(v.r.Context(), "page failed", "path", v.r.URL.Path, "error", err)
		p = &problem{Status: http.StatusInternalServerError, Detail: "Something went wrong on the server; its log says more."}
	}
	v.show(p.Status, "problem", http.StatusText(p.Status), p)
}

func (v *visit) nowhere() error {
	return &problem{Status: http.StatusNotFound, Detail: "There is nothing here."}
}

// done goes back to a page after a form has been carried out, and says so there
// with one of the notices.
func (v *visit) done(to, notice string) error {
	if notice != "" {
		to += "?notice=" + notice
	}
	http.Redirect(v.w, v.r, to, http.StatusSeeOther)
	return nil
}

// notices are what a page says after a form, by the name in its address: no
// address makes a page say anything else.
var notices = map[string]string{
	"queued":    "Queued. The jobs page shows how it goes.",
	"forgotten": "The image is forgotten.",
	"test":      "A test event is on its way; the attempts below show how it fared.",
	"paused":    "Paused: deliveries gather until it is resumed.",
	"resumed":   "Resumed.",
	"current":   "What is there now is on its way: one event for every image that the filters let through.",
	"deleted":   "Deleted.",
	"replayed":  "Queued again.",
	"dropped":   "Given up.",
	"revoked":   "The token is revoked.",
	"accepted":  "The update is accepted and runs now.",
}
