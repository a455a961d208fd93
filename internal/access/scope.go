package access

import (
	"fmt"
	"slices"
	"strings"
)

// Scope is one thing a token may do.
type Scope string

// The scopes. Admin holds all the others and sees every owner's subscriptions.
const (
	// Admin may do everything, tokens included.
	Admin Scope = "admin"
	// Read may look at images, reports, events, jobs, updaters and figures, and
	// at the subscriptions and deliveries of its owner.
	Read Scope = "read"
	// Publish may hand in images and layers, delete images, and run updaters; and
	// look at images, their reports and jobs, to judge what was handed in.
	Publish Scope = "publish"
	// Subscriptions may make, change and delete the subscriptions of its owner,
	// and replay or drop their deliveries.
	Subscriptions Scope = "subscriptions"
)

// Scopes are all there are.
var Scopes = []Scope{Admin, Read, Publish, Subscriptions}

// ParseScopes reads scope names; no name is twice in the result.
func ParseScopes(names []string) ([]Scope, error) {
	if len(names) == 0 {
		return nil, fmt.Errorf("no scope given; there are %s", scopeNames())
	}
	var out []Scope
	for _, n := range names {
		s := Scope(strings.ToLower(strings.TrimSpace(n)))
		if !slices.Contains(Scopes, s) {
			return nil, fmt.Errorf("unknown scope %q; there are %s", n, scopeNames())
		}
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out, nil
}

func scopeNames() string {
	names := make([]string, len(Scopes))
	for i, s := range Scopes {
		names[i] = string(s)
	}
	return strings.Join(names, ", ")
}

// Principal is who a request comes from.
type Principal struct {
	// Token is the id of the token that was shown.
	Token string
	Name  string
	// Owner is whose subscriptions it makes.
	Owner  string
	Scopes []Scope
}

// May reports whether the principal holds the scope, or [Admin].
func (p Principal) May(s Scope) bool {
	return slices.Contains(p.Scopes, s) || slices.Contains(p.Scopes, Admin)
}

// Sees is the owner whose subscriptions and deliveries the principal sees; ""
// for everyone's.
func (p Principal) Sees() string {
	if p.May(Admin) {
		return ""
	}
	return p.Owner
}
