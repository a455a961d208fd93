package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
)

const (
	defaultServer = "http://127.0.0.1:6060"
	// maxAnswer bounds an answer that is read whole, in bytes.
	maxAnswer = 256 << 20
)

// client talks to one server.
type client struct {
	base  *url.URL
	token string
	http  *http.Client
	e     *env
}

// client finds the server and the token: from flags and environment, else of
// the server whose data directory is here.
func (e *env) client() (*client, error) {
	dir := e.dataDir()
	server := e.global.Server
	if server == "" {
		server = runningIn(dir)
	}
	if !strings.Contains(server, "://") {
		server = "http://" + server
	}
	u, err := url.Parse(strings.TrimRight(server, "/"))
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, usage("--server %q is not an http or https URL", server)
	}
	token := e.global.Token
	if token == "" && loopback(u.Hostname()) { // the file's token is for the server beside it alone
		if b, err := os.ReadFile(filepath.Join(dir, "token")); err == nil {
			token = strings.TrimSpace(string(b))
		}
	}
	return &client{base: u, token: token, http: &http.Client{}, e: e}, nil
}

// runningIn is the address of the server that runs on a data directory, or the
// default one.
func runningIn(dir string) string {
	var run struct {
		PID int    `json:"pid"`
		API string `json:"api"`
	}
	b, err := os.ReadFile(filepath.Join(dir, "run.json"))
	if err != nil || json.Unmarshal(b, &run) != nil || run.API == "" || run.PID <= 0 {
		return defaultServer
	}
	if err := syscall.Kill(run.PID, 0); err != nil && !errors.Is(err, syscall.EPERM) {
		return defaultServer // it is not running any more
	}
	return "http://" + run.API
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// call sends in as JSON, if it is not nil, and decodes the answer into out, if
// it is not nil.
func (c *client) call(method, path string, query url.Values, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("writing the request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	ctx, cancel := context.WithTimeout(c.e.ctx, c.e.global.Timeout)
	defer cancel()
	return c.send(ctx, method, path, query, "application/json", body, out)
}

// stream sends a body of any length; it ends with the command's context only.
func (c *client) stream(method, path string, body io.Reader, out any) error {
	return c.send(c.e.ctx, method, path, nil, "application/octet-stream", body, out)
}

func (c *client) send(ctx context.Context, method, path string, query url.Values, contentType string, body io.Reader, out any) error {
	u := *c.base
	full := strings.TrimRight(u.EscapedPath(), "/") + "/api/v1" + path
	unescaped, err := url.PathUnescape(full)
	if err != nil {
		return fmt.Errorf("path %q: %w", path, err)
	}
	u.Path, u.RawPath, u.RawQuery = unescaped, full, query.Encode()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", contentType)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.unreachable(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("reading the answer of %s: %w", c.base, err)
	}
	if resp.StatusCode/100 != 2 {
		return c.refused(resp, b)
	}
	if out == nil || len(b) == 0 {
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return &hinted{error: fmt.Errorf("the answer of %s is not Tocsin's: %w", c.base, err), hint: "Is that the right server? --server says which is asked."}
	}
	return nil
}

// unreachable explains why no answer came.
func (c *client) unreachable(err error) error {
	if c.e.ctx.Err() != nil {
		return c.e.ctx.Err()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return &hinted{error: fmt.Errorf("%s did not answer within %s", c.base, c.e.global.Timeout), hint: "--timeout gives it longer."}
	}
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err
	}
	return &hinted{
		error: fmt.Errorf("no Tocsin answers at %s: %w", c.base, err),
		hint:  "Start one with `tocsin serve`, or name another with --server or TOCSIN_SERVER.",
		code:  ExitUnreachable,
	}
}

// answer is a problem as RFC 9457 has it.
type answer struct {
	Title  string
	Detail string
	Errors []struct {
		Location, Message string
		Value             any
	}
}

// statusError is an answer that is not a success.
type statusError struct {
	status int
	text   string
}

func (s *statusError) Error() string { return s.text }

func (c *client) refused(resp *http.Response, body []byte) error {
	var p answer
	text := resp.Status
	if json.Unmarshal(body, &p) == nil && (p.Detail != "" || p.Title != "") {
		if text = p.Detail; text == "" {
			text = p.Title
		}
		for _, d := range p.Errors {
			text += "\n  " + d.Location + ": " + d.Message
		}
	}
	err := &statusError{resp.StatusCode, text}
	switch resp.StatusCode {
	case http.StatusUnauthorized:
		hint := "Give a token with TOCSIN_TOKEN or --token; a server's first one is in its data directory, in the file token."
		return &hinted{error: err, hint: hint, code: ExitRefused}
	case http.StatusForbidden:
		return &hinted{error: err, hint: "`tocsin tokens create` makes a token with other scopes.", code: ExitRefused}
	case http.StatusServiceUnavailable:
		return &hinted{error: err, hint: "`tocsin health` says what the server is waiting for."}
	}
	return err
}

// notFound reports whether the server said that a thing is not there.
func notFound(err error) bool {
	s, ok := errors.AsType[*statusError](err)
	return ok && s.status == http.StatusNotFound
}

// conflict reports whether the server said that a thing is there already and is
// another.
func conflict(err error) bool {
	s, ok := errors.AsType[*statusError](err)
	return ok && s.status == http.StatusConflict
}

func isStatus(err error, status int) bool {
	s, ok := errors.AsType[*statusError](err)
	return ok && s.status == status
}

// list gathers up to limit items of a paged list; 0 means all.
func list[T any](c *client, path string, query url.Values, limit int) ([]T, error) {
	items := []T{}
	if query == nil {
		query = url.Values{}
	}
	for {
		n := 500
		if limit > 0 {
			n = min(n, limit-len(items))
		}
		query.Set("limit", strconv.Itoa(n))
		var page v1.Page[T]
		if err := c.call(http.MethodGet, path, query, nil, &page); err != nil {
			return nil, err
		}
		items = append(items, page.Items...)
		if page.Next == "" || limit > 0 && len(items) >= limit {
			return items, nil
		}
		query.Set("cursor", page.Next)
	}
}

// seg escapes one segment of a path.
func seg(s string) string { return url.PathEscape(s) }

// setIf sets a parameter of a query, if there is a value.
func setIf(q url.Values, name, value string) {
	if value != "" {
		q.Set(name, value)
	}
}
