package clair

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/quay/claircore"
	"github.com/quay/claircore/pkg/tarfs"
)

func (s *server) index(w http.ResponseWriter, r *http.Request) {
	var in manifest
	if !decode(w, r, maxManifest, &in) {
		return
	}
	m, err := toManifest(in)
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	state, err := s.Indexer.State(r.Context())
	if err != nil {
		s.broke(w, r, err)
		return
	}
	if unmodified(r, quote(state)) {
		_, ok, err := s.finished(r, m.Hash)
		if err != nil {
			s.broke(w, r, err)
			return
		}
		if ok {
			w.WriteHeader(http.StatusPreconditionFailed)
			return
		}
	}
	ctx, leave, ok := s.limiter.enter(r.Context())
	if !ok {
		w.Header().Set("Retry-After", "5")
		fail(w, http.StatusTooManyRequests, errors.New("too many index requests at once"))
		return
	}
	defer leave()
	report, err := s.Indexer.Index(ctx, m)
	switch {
	case errors.Is(err, tarfs.ErrFormat), errors.Is(err, ErrBadManifest):
		fail(w, http.StatusBadRequest, fmt.Errorf("failed to start scan: %w", err))
		return
	case err != nil:
		s.broke(w, r, &indexError{err})
		return
	}
	d := m.Hash.String()
	h := w.Header()
	h.Set("Etag", quote(state))
	h.Set("Location", "/indexer/api/v1/index_report/"+d)
	h.Add("Link", "</indexer/api/v1/index_report/"+d+`>; rel="https://projectquay.io/clair/v1/index_report"`)
	h.Add("Link", "</matcher/api/v1/vulnerability_report/"+d+`>; rel="https://projectquay.io/clair/v1/vulnerability_report"`)
	answer(w, r, http.StatusCreated, typeJSON, fromIndexReport(report))
}

func (s *server) indexReport(w http.ResponseWriter, r *http.Request) {
	contentType, ok := negotiate(w, r, typeIndexReport, typeJSON)
	if !ok {
		return
	}
	d, ok := pathDigest(w, r)
	if !ok {
		return
	}
	state, err := s.Indexer.State(r.Context())
	if err != nil {
		s.broke(w, r, err)
		return
	}
	report, ok, err := s.Indexer.IndexReport(r.Context(), d)
	if err != nil {
		s.broke(w, r, err)
		return
	}
	if !ok {
		fail(w, http.StatusNotFound, fmt.Errorf("index report for manifest %q not found", d))
		return
	}
	w.Header().Set("Etag", quote(state))
	if unmodified(r, quote(state)) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	answer(w, r, http.StatusOK, contentType, fromIndexReport(report))
}

func (s *server) indexState(w http.ResponseWriter, r *http.Request) {
	contentType, ok := negotiate(w, r, typeIndexState, typeJSON)
	if !ok {
		return
	}
	state, err := s.Indexer.State(r.Context())
	if err != nil {
		s.broke(w, r, err)
		return
	}
	w.Header().Set("Etag", quote(state))
	if unmodified(r, quote(state)) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	answer(w, r, http.StatusOK, contentType, indexState{State: state})
}

func (s *server) deleteReport(w http.ResponseWriter, r *http.Request) {
	d, ok := pathDigest(w, r)
	if !ok {
		return
	}
	if _, err := s.Indexer.DeleteManifests(r.Context(), d); err != nil {
		s.broke(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *server) deleteReports(w http.ResponseWriter, r *http.Request) {
	contentType, ok := negotiate(w, r, "application/vnd.clair.bulk_delete.v1+json", typeJSON)
	if !ok {
		return
	}
	var in []string
	if !decode(w, r, maxManifest, &in) {
		return
	}
	ds := make([]claircore.Digest, len(in))
	for i, s := range in {
		d, err := claircore.ParseDigest(s)
		if err != nil {
			fail(w, http.StatusBadRequest, fmt.Errorf("[%d]: %w", i, err))
			return
		}
		ds[i] = d
	}
	gone, err := s.Indexer.DeleteManifests(r.Context(), ds...)
	if err != nil {
		s.broke(w, r, err)
		return
	}
	out := make([]string, len(gone))
	for i, d := range gone {
		out[i] = d.String()
	}
	answer(w, r, http.StatusOK, contentType, out)
}

// finished finds the report of a manifest whose indexing has ended well.
func (s *server) finished(r *http.Request, d claircore.Digest) (*claircore.IndexReport, bool, error) {
	report, ok, err := s.Indexer.IndexReport(r.Context(), d)
	return report, ok && err == nil && report.Success, err
}

func pathDigest(w http.ResponseWriter, r *http.Request) (claircore.Digest, bool) {
	d, err := claircore.ParseDigest(r.PathValue("digest"))
	if err != nil {
		fail(w, http.StatusBadRequest, fmt.Errorf("malformed path: %w", err))
		return d, false
	}
	return d, true
}

func quote(state string) string { return `"` + state + `"` }

// indexError is why an index request failed, in Clair's words.
type indexError struct{ cause error }

func (e *indexError) Error() string { return "failed to start scan: " + e.cause.Error() }

func (e *indexError) Unwrap() error { return e.cause }
