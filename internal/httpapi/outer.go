package httpapi

import (
	"context"
	"crypto/rand"
	"io"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

// outer is what every request goes through: an id, a deadline for its body, a
// line in the access log, and an end to panics.
func (s *server) outer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := s.Now()
		id := requestID(r.Header.Get("X-Request-Id"))
		w.Header().Set("X-Request-Id", id)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		v := &visit{s: s, request: id}
		r = r.WithContext(context.WithValue(r.Context(), visitKey{}, v))
		if !isUpload(r) {
			// A copy: the server looks at its own request's body to tell whether
			// the connection can be used again.
			r = r.WithContext(r.Context())
			r.Body = http.MaxBytesReader(w, r.Body, bodyLimit(r))
			// The server takes the deadline away when the body has come. Without a
			// body it would stay, and look like the client's going.
			if r.ContentLength != 0 {
				http.NewResponseController(w).SetReadDeadline(start.Add(s.BodyTimeout)) // not every writer knows deadlines; those of tests don't
			}
		}
		rec := &recorder{ResponseWriter: w}
		defer func() {
			if p := recover(); p != nil && p != http.ErrAbortHandler {
				s.Log.ErrorContext(r.Context(), "request handler panicked", "panic", p, "request", id, "stack", string(debug.Stack()))
				if rec.status == 0 {
					writeProblem(rec, http.StatusInternalServerError, "something went wrong on the server; its log says more")
				}
			}
			v.conclude(r.Context(), rec.status)
			s.requests.WithLabelValues(route(r), knownMethod(r.Method), strconv.Itoa(rec.status)).Observe(s.Now().Sub(start).Seconds())
			s.Log.DebugContext(r.Context(), "request", "request", id, "method", r.Method, "path", r.URL.Path,
				"status", rec.status, "bytes", rec.bytes, "duration", s.Now().Sub(start), "remote", remoteHost(r))
		}()
		next.ServeHTTP(rec, r)
	})
}

// route is the pattern that a request matched, so that there are only as many
// as there are patterns.
func route(r *http.Request) string {
	_, path, found := strings.Cut(r.Pattern, " ")
	if !found {
		path = r.Pattern
	}
	if path == "/" || path == "" {
		return "none"
	}
	return path
}

// knownMethod bounds the methods that become labels.
func knownMethod(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions:
		return m
	}
	return "other"
}

// bodyLimit leaves Clair's API its own, larger bounds.
func bodyLimit(r *http.Request) int64 {
	if strings.HasPrefix(r.URL.Path, "/indexer/") {
		return 128 << 20
	}
	return maxBody
}

// requestID keeps an id that a proxy has given, if it is one.
func requestID(given string) string {
	if given != "" && len(given) <= 64 && strings.IndexFunc(given, func(r rune) bool {
		return r != '-' && r != '_' && r != '.' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}) < 0 {
		return given
	}
	return rand.Text()
}

// recorder notes what was answered.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(p)
	r.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController through.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// rollingReader moves the read deadline on as long as bytes come.
type rollingReader struct {
	rc *http.ResponseController
	r  io.Reader
}

func (u rollingReader) Read(p []byte) (int, error) {
	u.rc.SetReadDeadline(time.Now().Add(uploadStall)) // as above
	return u.r.Read(p)
}
