package ingest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/internal/text"
)

// MaxChanges is how many changes one message may hold.
const MaxChanges = 1000

// Kinds are the senders that are understood.
var Kinds = []string{"distribution", "harbor", "quay", "github", "acr", "ecr"}

// A Change is one image that was pushed, tagged anew, or deleted.
type Change struct {
	// Repository is the registry's host and the repository.
	Repository string
	// Tag and Digest say which of its images; one of them may be empty.
	Tag, Digest string
	Deleted     bool
}

// Reference is what to ask the registry for: by the tag if there is one, since
// it may have moved on.
func (c Change) Reference() string {
	if c.Tag != "" {
		return c.Repository + ":" + c.Tag
	}
	return c.Repository + "@" + c.Digest
}

// Parse reads the message of a kind of sender. registry, if not empty, is the
// registry's host as this side reaches it, in place of what the message says.
// Parts of a message that are about no image, such as the push of a layer, are
// left out; a message that can't be understood is a [problem.Field].
func Parse(kind, registry string, body []byte) ([]Change, error) {
	parse, ok := parsers[kind]
	if !ok {
		return nil, problem.New(problem.NotFound, "there is no sender %q: there are %s", text.Clip(text.Clean(kind), 40), strings.Join(Kinds, ", "))
	}
	found, err := parse(body)
	if err != nil {
		if _, ok := errors.AsType[*json.SyntaxError](err); ok {
			err = fmt.Errorf("is not JSON: %w", err)
		} else if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			err = fmt.Errorf("%s is a JSON %s", e.Field, e.Value)
		}
		return nil, problem.Field{Field: "body", Message: err.Error(), Hint: "what " + kind + " sends"}
	}
	if len(found) > MaxChanges {
		return nil, problem.Field{Field: "body", Message: fmt.Sprintf("is about %d images, more than %d", len(found), MaxChanges)}
	}
	out := make([]Change, 0, len(found))
	for _, c := range found {
		if registry != "" {
			_, path, _ := strings.Cut(c.Repository, "/")
			c.Repository = registry + "/" + path
		}
		if err := c.check(); err != nil {
			return nil, err
		}
		if !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out, nil
}

// The names of the OCI distribution specification, a registry's host before a
// repository.
var (
	repository = regexp.MustCompile(`^[A-Za-z0-9]+([.-][A-Za-z0-9]+)*(:[0-9]{1,5})?(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)+$`)
	tag        = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)
)

// check refuses what is no name of an image. Its errors repeat nothing that has
// control characters, nor more than a little of it.
func (c Change) check() error {
	bad := func(what, value string) error {
		return problem.Field{Field: "body", Message: fmt.Sprintf("has %q as %s", text.Clip(text.Clean(value), 100), what)}
	}
	if _, err := name.NewRepository(c.Repository, name.StrictValidation); err != nil || len(c.Repository) > 512 || !repository.MatchString(c.Repository) {
		return bad("a repository with its registry", c.Repository)
	}
	if c.Tag == "" && c.Digest == "" {
		return bad("an image without tag and digest", c.Repository)
	}
	if c.Tag != "" {
		if !tag.MatchString(c.Tag) {
			return bad("a tag", c.Tag)
		}
	}
	if c.Digest != "" {
		if _, err := name.NewDigest(c.Repository + "@" + c.Digest); err != nil {
			return bad("a digest", c.Digest)
		}
	}
	return nil
}

// VerifyGitHub reports whether a signature (X-Hub-Signature-256) of a body is by
// the secret.
func VerifyGitHub(secret, signature string, body []byte) bool {
	given, ok := strings.CutPrefix(signature, "sha256=")
	if !ok || secret == "" {
		return false
	}
	raw, err := hex.DecodeString(given)
	if err != nil {
		return false
	}
	m := hmac.New(sha256.New, []byte(secret))
	m.Write(body)
	return hmac.Equal(raw, m.Sum(nil))
}
