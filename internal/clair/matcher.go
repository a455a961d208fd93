package clair

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/google/uuid"
	"github.com/quay/claircore/libvuln/driver"
)

// vulnerabilityReport answers with the media type of an index report: a slip
// of Clair's that its clients have come to expect.
func (s *server) vulnerabilityReport(w http.ResponseWriter, r *http.Request) {
	d, ok := pathDigest(w, r)
	if !ok {
		return
	}
	if !s.loaded.Load() {
		ready, err := s.Matcher.Initialized(r.Context())
		if err != nil {
			s.broke(w, r, err)
			return
		}
		if !ready {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		s.loaded.Store(true)
	}
	ir, ok, err := s.finished(r, d)
	if err != nil {
		s.broke(w, r, err)
		return
	}
	if !ok {
		fail(w, http.StatusNotFound, fmt.Errorf("index report for manifest %q not found", d))
		return
	}
	report, err := s.Matcher.Scan(r.Context(), ir)
	if err != nil {
		s.broke(w, r, err)
		return
	}
	w.Header().Set("Cache-Control", "max-age="+strconv.Itoa(int(s.CacheAge.Seconds())))
	answer(w, r, http.StatusOK, typeIndexReport, fromVulnerabilityReport(report))
}

func (s *server) updateOperations(w http.ResponseWriter, r *http.Request) {
	kind := driver.VulnerabilityKind
	switch q := r.URL.Query().Get("kind"); q {
	case "", string(driver.VulnerabilityKind):
	case string(driver.EnrichmentKind):
		kind = driver.EnrichmentKind
	default:
		fail(w, http.StatusBadRequest, errors.New("kind is vulnerability or enrichment"))
		return
	}
	latest := false
	if q := r.URL.Query().Get("latest"); q != "" {
		var err error
		if latest, err = strconv.ParseBool(q); err != nil {
			fail(w, http.StatusBadRequest, errors.New("latest is true or false"))
			return
		}
	}
	ref, err := s.Matcher.LatestUpdateOperation(r.Context(), kind)
	if err != nil {
		s.broke(w, r, err)
		return
	}
	if ref != uuid.Nil {
		w.Header().Set("Etag", quote(ref.String()))
		if unmodified(r, quote(ref.String())) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	var ops map[string][]driver.UpdateOperation
	if latest {
		ops, err = s.Matcher.LatestUpdateOperations(r.Context(), kind)
	} else {
		ops, err = s.Matcher.UpdateOperations(r.Context(), kind)
	}
	if err != nil {
		s.broke(w, r, err)
		return
	}
	out := make(map[string][]updateOperation, len(ops))
	for name, list := range ops {
		out[name] = make([]updateOperation, len(list))
		for i, o := range list {
			out[name][i] = fromOperation(o, kind)
		}
	}
	answer(w, r, http.StatusOK, typeJSON, out)
}

func (s *server) deleteUpdateOperation(w http.ResponseWriter, r *http.Request) {
	ref, err := uuid.Parse(r.PathValue("ref"))
	if err != nil {
		fail(w, http.StatusBadRequest, fmt.Errorf("malformed path: %w", err))
		return
	}
	_, err = s.Matcher.DeleteUpdateOperations(r.Context(), ref)
	switch {
	case errors.Is(err, ErrInUse):
		fail(w, http.StatusConflict, err)
	case err != nil:
		s.broke(w, r, err)
	default:
		w.WriteHeader(http.StatusOK)
	}
}

func (s *server) updateDiff(w http.ResponseWriter, r *http.Request) {
	cur, err := uuid.Parse(r.URL.Query().Get("cur"))
	if err != nil {
		fail(w, http.StatusBadRequest, fmt.Errorf("cur: %w", err))
		return
	}
	var prev uuid.UUID
	if q := r.URL.Query().Get("prev"); q != "" {
		if prev, err = uuid.Parse(q); err != nil {
			fail(w, http.StatusBadRequest, fmt.Errorf("prev: %w", err))
			return
		}
	}
	d, err := s.Matcher.UpdateDiff(r.Context(), prev, cur)
	if err != nil {
		s.broke(w, r, err)
		return
	}
	answer(w, r, http.StatusOK, typeJSON, updateDiff{
		Prev:    fromOperation(d.Prev, driver.VulnerabilityKind),
		Cur:     fromOperation(d.Cur, driver.VulnerabilityKind),
		Added:   fromVulnerabilities(d.Added),
		Removed: fromVulnerabilities(d.Removed),
	})
}
