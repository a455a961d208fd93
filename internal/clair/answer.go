package clair

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"

	"tocsin.dev/tocsin/internal/jsonlimit"
)

// Media types of Clair's API.
const (
	typeJSON         = "application/json"
	typeIndexReport  = "application/vnd.clair.index_report.v1+json"
	typeIndexState   = "application/vnd.clair.index_state.v1+json"
	typeAffected     = "application/vnd.clair.affected_manifests.v1+json"
	typeNotification = "application/vnd.clair.notification_page.v1+json"
)

// compressFrom is the size of an answer from which compression is worth it.
const compressFrom = 4 << 10

// answer writes v as a whole, so that an error never comes in the middle.
func answer(w http.ResponseWriter, r *http.Request, status int, contentType string, v any) {
	var body bytes.Buffer
	if err := json.NewEncoder(&body).Encode(v); err != nil {
		fail(w, http.StatusInternalServerError, fmt.Errorf("writing the answer: %w", err))
		return
	}
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Add("Vary", "Accept-Encoding")
	out := body.Bytes()
	if len(out) >= compressFrom && acceptsGzip(r.Header.Get("Accept-Encoding")) {
		var z bytes.Buffer
		zw, _ := gzip.NewWriterLevel(&z, gzip.BestSpeed) // a level that there is: no error
		zw.Write(out)                                    // to memory: no error
		zw.Close()
		out = z.Bytes()
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("Content-Length", strconv.Itoa(len(out)))
	w.WriteHeader(status)
	w.Write(out) // the client may have gone; there is nobody to tell
}

// apiError is the body of every error of Clair's API.
type apiError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func fail(w http.ResponseWriter, status int, err error) {
	code := "internal-error"
	switch status {
	case http.StatusBadRequest:
		code = "bad-request"
	case http.StatusMethodNotAllowed:
		code = "method-not-allowed"
	case http.StatusNotFound:
		code = "not-found"
	case http.StatusTooManyRequests:
		code = "too-many-requests"
	}
	h := w.Header()
	h.Del("Link")
	h.Del("Etag")
	h.Del("Content-Length")
	h.Set("Content-Type", typeJSON)
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(apiError{Code: code, Message: err.Error()}) // as above
}

// bodyLimits bound what is in a body beside its bytes: Clair's clients delete many
// reports at a time.
var bodyLimits = jsonlimit.Limits{Items: 20_000}

// decode reads a JSON body of at most limit bytes. Unknown fields are let
// through and the Content-Type is not looked at, as Clair does.
func decode(w http.ResponseWriter, r *http.Request, limit int64, into any) bool {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err == nil {
		err = bodyLimits.Check(text)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if err == nil {
		err = d.Decode(into)
	}
	if err == nil {
		if _, trailing := d.Token(); !errors.Is(trailing, io.EOF) {
			err = errors.New("there is more after the JSON value")
		}
	}
	if err == nil {
		return true
	}
	if tooBig, ok := errors.AsType[*http.MaxBytesError](err); ok {
		fail(w, http.StatusRequestEntityTooLarge, fmt.Errorf("the body is over %d bytes", tooBig.Limit))
		return false
	}
	fail(w, http.StatusBadRequest, fmt.Errorf("failed to deserialize the body: %w", err))
	return false
}

// negotiate picks the first of the allowed types that the Accept header lets
// through, and sets it. Without the header it is the first. It answers the
// error itself.
func negotiate(w http.ResponseWriter, r *http.Request, allowed ...string) (string, bool) {
	accept := r.Header.Values("Accept")
	if len(accept) == 0 {
		return allowed[0], true
	}
	best, bestQ := "", 0.0
	for part := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		want, params, err := mime.ParseMediaType(part)
		if err != nil {
			fail(w, http.StatusBadRequest, fmt.Errorf("malformed Accept header: %w", err))
			return "", false
		}
		q := 1.0
		if s, ok := params["q"]; ok {
			if q, err = strconv.ParseFloat(s, 64); err != nil || q < 0 || q > 1 {
				fail(w, http.StatusBadRequest, errors.New("malformed Accept header: q is a number from 0 to 1"))
				return "", false
			}
		}
		for _, a := range allowed {
			if q > bestQ && (want == "*/*" || want == "application/*" || want == a) {
				best, bestQ = a, q
				break
			}
		}
	}
	if best == "" {
		fail(w, http.StatusUnsupportedMediaType, fmt.Errorf("only %s can be had", strings.Join(allowed, ", ")))
		return "", false
	}
	return best, true
}

// unmodified reports whether the client has the state already (RFC 9110,
// section 13.1.2).
func unmodified(r *http.Request, etag string) bool {
	for _, line := range r.Header.Values("If-None-Match") {
		for tag := range strings.SplitSeq(line, ",") {
			if strings.TrimPrefix(strings.TrimSpace(tag), "W/") == etag {
				return true
			}
		}
	}
	return false
}

func acceptsGzip(header string) bool {
	for part := range strings.SplitSeq(header, ",") {
		name, q, _ := strings.Cut(strings.TrimSpace(part), ";")
		if name == "gzip" || name == "*" {
			return strings.TrimSpace(q) != "q=0"
		}
	}
	return false
}
