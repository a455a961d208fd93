package clair

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"unicode/utf8"

	"github.com/quay/claircore"

	"tocsin.dev/tocsin/internal/problem"
)

const (
	// maxGiven is how many vulnerabilities one affected-manifest request may name.
	maxGiven = 200_000
	// givenBatch is how many of them are held as the client wrote them.
	givenBatch = 1000
)

// errTooMany is answered as 413.
var errTooMany = fmt.Errorf("more than %d vulnerabilities; ask for fewer at a time", maxGiven)

// affected answers which manifests the given vulnerabilities affect. The request
// is read and worked through in batches: a body of millions of empty objects
// costs no more than its bytes.
func (s *server) affected(w http.ResponseWriter, r *http.Request) {
	contentType, ok := negotiate(w, r, typeAffected, typeJSON)
	if !ok {
		return
	}
	found := claircore.NewAffectedManifests()
	pairs := 0
	ask := func(vulns []claircore.Vulnerability) error {
		part, err := s.Indexer.AffectedManifests(r.Context(), vulns)
		if err != nil {
			return err
		}
		maps.Copy(found.Vulnerabilities, part.Vulnerabilities)
		for d, ids := range part.VulnerableManifests {
			pairs += len(ids)
			found.VulnerableManifests[d] = append(found.VulnerableManifests[d], ids...)
		}
		if pairs > maxPairs {
			return problem.New(problem.TooLarge, "over %d pairs of a vulnerability and a manifest; ask for fewer vulnerabilities at a time", maxPairs)
		}
		return nil
	}
	err := eachVulnerability(http.MaxBytesReader(w, r.Body, maxVulnerabilities), ask)
	var bad *badRequest
	switch {
	case errors.Is(err, errTooMany), problem.KindOf(err) == problem.TooLarge:
		fail(w, http.StatusRequestEntityTooLarge, err)
		return
	case errors.As(err, &bad):
		if tooBig, ok := errors.AsType[*http.MaxBytesError](err); ok {
			fail(w, http.StatusRequestEntityTooLarge, fmt.Errorf("the body is over %d bytes", tooBig.Limit))
			return
		}
		fail(w, http.StatusBadRequest, bad.error)
		return
	case err != nil:
		s.broke(w, r, err)
		return
	}
	found.Sort()
	out := affectedManifests{
		Vulnerabilities:     convertMap(found.Vulnerabilities, fromVulnerability),
		VulnerableManifests: map[string][]string{},
	}
	for d, ids := range found.VulnerableManifests {
		out.VulnerableManifests[d] = notNil(slices.Compact(ids))
	}
	answer(w, r, http.StatusOK, contentType, out)
}

// maxPairs bounds the (vulnerability, manifest) pairs of one answer.
const maxPairs = 2_000_000

// badRequest is an error in what the client sent.
type badRequest struct{ error }

func (e *badRequest) Unwrap() error { return e.error }

// eachVulnerability reads the body of an affected-manifest request and hands the
// vulnerabilities on in batches, one of them empty if there are none. Errors of
// the body are *badRequest and errTooMany.
func eachVulnerability(body io.Reader, do func([]claircore.Vulnerability) error) error {
	d := json.NewDecoder(body)
	broken := func(err error) error { return &badRequest{fmt.Errorf("failed to deserialize the body: %w", err)} }
	if err := expect(d, '{'); err != nil {
		return broken(err)
	}
	var batch []claircore.Vulnerability
	n := 0
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return broken(err)
		}
		if key != "vulnerabilities" {
			var skipped json.RawMessage
			if err := d.Decode(&skipped); err != nil {
				return broken(err)
			}
			continue
		}
		t, err := d.Token()
		if err != nil {
			return broken(err)
		}
		if t == nil { // null is no list
			continue
		}
		if t != json.Delim('[') {
			return broken(errors.New("vulnerabilities is not a list"))
		}
		for d.More() {
			if n++; n > maxGiven {
				return errTooMany
			}
			v, err := decodeVulnerability(d)
			if err != nil {
				return err
			}
			if batch = append(batch, v); len(batch) == givenBatch {
				if err := do(batch); err != nil {
					return err
				}
				batch = nil // its vulnerabilities may be part of the answer
			}
		}
		if err := expect(d, ']'); err != nil {
			return broken(err)
		}
	}
	if err := expect(d, '}'); err != nil {
		return broken(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return broken(errors.New("there is more after the JSON value"))
	}
	if len(batch) > 0 || n == 0 {
		return do(batch)
	}
	return nil
}

func decodeVulnerability(d *json.Decoder) (claircore.Vulnerability, error) {
	var raw json.RawMessage
	var in vulnerability
	err := d.Decode(&raw)
	if err == nil && !utf8.Valid(raw) {
		err = errors.New("it is not UTF-8")
	}
	if err == nil {
		err = json.Unmarshal(raw, &in)
	}
	if err != nil {
		return claircore.Vulnerability{}, &badRequest{fmt.Errorf("failed to deserialize the body: %w", err)}
	}
	v, err := toVulnerability(in)
	if err != nil {
		return v, &badRequest{err}
	}
	return v, nil
}

func expect(d *json.Decoder, want json.Delim) error {
	t, err := d.Token()
	if err == nil && t != want {
		err = fmt.Errorf("%v where %v is expected", t, want)
	}
	return err
}
