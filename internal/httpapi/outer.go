package httpapi

import (
	"context"
	"crypto/rand"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
)

// outer is what every request goes through: an id, a deadline for its body, a
// line in the access log, and an end to panics.
func (s *server) outer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := s.Now()
		id := requestID(r.Header.Get("X-Request-Id"))
		w.Header().Set("X-Request-Id", id)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		v := &visit{s: s, request: id, remote: clientHost(r, s.TrustedProxies)}
		r = r.WithContext(context.WithValue(r.Context(), visitKey{}, v))
		rec := &recorder{ResponseWriter: w, rc: http.NewResponseController(w), hasIn: r.ContentLength != 0, stall: s.Stall}
		if isUpload(r) {
			_ = rec.rc.SetReadDeadline(start.Add(s.Stall)) // until its reading begins; not every writer knows deadlines: those of tests don't
		} else {
			// A copy: the server looks at its own request's body to tell whether
			// the connection can be used again.
			r = r.WithContext(r.Context())
			r.Body = http.MaxBytesReader(w, r.Body, bodyLimit(r))
			// The server takes the deadline away when the body has come. Without a
			// body it would stay, and look like the client's going.
			if r.ContentLength != 0 {
				_ = rec.rc.SetReadDeadline(start.Add(s.BodyTimeout)) // as above
			}
		}
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
		rec.extend() // for what is still to be flushed
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
