package cli

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/google/uuid"

	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/internal/terminal"
	"tocsin.dev/tocsin/schemas"
)

const (
	// shortID is how many of an id's last digits tables show on a terminal: the
	// first ones are the time, and alike for what was made together.
	shortID = 8
	// leastID is how few digits may stand for an id.
	leastID = 4
	// newest is how many of what there may be very many of are looked through.
	newest = 1000
)

// id is an id as a table shows it: in full where a program reads it.
func (e *env) id(full string) string {
	if e.width == 0 || len(full) != 36 {
		return full
	}
	return full[36-shortID:]
}

// A thing is what has an id, and perhaps a name.
type thing struct{ id, name string }

var (
	partOfID     = regexp.MustCompile(`^[0-9a-fA-F-]+$`)
	partOfDigest = regexp.MustCompile(`^(sha256:)?[0-9a-f]{6,63}$`)
)

// find returns the full id of what is meant: an id, its beginning or its end, or
// a name. There is only the server's word for a full id.
func find(noun, meant string, all func() ([]thing, error)) (string, error) {
	if _, err := uuid.Parse(meant); err == nil {
		return meant, nil
	}
	things, err := all()
	if err != nil {
		return "", err
	}
	var matches []thing
	low := strings.ToLower(meant)
	for _, t := range things {
		if t.name != "" && t.name == meant {
			matches = append(matches, t)
		}
	}
	if len(matches) == 0 && len(low) >= leastID && partOfID.MatchString(low) {
		for _, t := range things {
			if strings.HasPrefix(t.id, low) || strings.HasSuffix(t.id, low) {
				matches = append(matches, t)
			}
		}
	}
	switch len(matches) {
	case 1:
		return matches[0].id, nil
	case 0:
		return "", &hinted{
			error: fmt.Errorf("no %s is called %q", noun, meant),
			hint:  fmt.Sprintf("Give its id, at least %d digits of the beginning or the end of it, or its name if it has one.", leastID),
		}
	}
	text := fmt.Sprintf("%q may be any of %d:", meant, len(matches))
	for _, t := range matches[:min(len(matches), 10)] {
		text += "\n  " + t.id + "  " + terminal.Clean(t.name)
	}
	return "", &hinted{error: fmt.Errorf("%s", text), hint: "Give more digits of its id."}
}

func (cl *client) subscriptionID(meant string) (string, error) {
	return find("subscription", meant, func() ([]thing, error) {
		subs, err := list[schemas.Subscription](cl, "/subscriptions", nil, 0)
		return things(subs, func(s schemas.Subscription) thing { return thing{s.ID, s.Name} }), err
	})
}

func (cl *client) tokenID(meant string) (string, error) {
	return find("token", meant, func() ([]thing, error) {
		tokens, err := list[v1.Token](cl, "/tokens", nil, 0)
		return things(tokens, func(t v1.Token) thing { return thing{t.ID, t.Name} }), err
	})
}

func (cl *client) jobID(meant string) (string, error) {
	return find("job among the newest", meant, func() ([]thing, error) {
		jobs, err := list[v1.Job](cl, "/jobs", nil, newest)
		return things(jobs, func(j v1.Job) thing { return thing{id: j.ID} }), err
	})
}

func (cl *client) deliveryID(meant string) (string, error) {
	return find("delivery among the newest", meant, func() ([]thing, error) {
		ds, err := list[v1.Delivery](cl, "/deliveries", nil, newest)
		return things(ds, func(d v1.Delivery) thing { return thing{id: d.ID} }), err
	})
}

func (cl *client) eventID(meant string) (string, error) {
	return find("event among the newest", meant, func() ([]thing, error) {
		events, err := list[struct{ ID string }](cl, "/events", nil, newest)
		return things(events, func(e struct{ ID string }) thing { return thing{id: e.ID} }), err
	})
}

func things[T any](items []T, of func(T) thing) []thing {
	out := make([]thing, len(items))
	for i, item := range items {
		out[i] = of(item)
	}
	return out
}

// imageRef returns the digest that the beginning of one stands for, and any other
// reference as it is: the server knows the names.
func (cl *client) imageRef(meant string) (string, error) {
	if !partOfDigest.MatchString(meant) {
		return meant, nil
	}
	err := cl.call(http.MethodGet, "/images/"+seg(meant), nil, nil, nil)
	if err == nil || !refusedRef(err) {
		return meant, err
	}
	images, err := list[v1.Image](cl, "/images", nil, 0)
	if err != nil {
		return "", err
	}
	prefix := "sha256:" + strings.TrimPrefix(meant, "sha256:")
	var matches []string
	for _, i := range images {
		if strings.HasPrefix(i.Digest, prefix) {
			matches = append(matches, i.Digest)
		}
	}
	switch len(matches) {
	case 0:
		return meant, nil // the server says what is wrong with it
	case 1:
		return matches[0], nil
	}
	return "", &hinted{error: fmt.Errorf("%s may be any of %d images", meant, len(matches)), hint: "Give more of the digest."}
}

// refusedRef reports whether the server knows no such reference, or takes it for none.
func refusedRef(err error) bool {
	return notFound(err) || isStatus(err, http.StatusUnprocessableEntity)
}
