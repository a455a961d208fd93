package delivery

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"

	"github.com/google/uuid"

	"tocsin.dev/tocsin/internal/problem"
)

// ClairNotification reads a page of a notification, after a change of it
// (uuid.Nil for the first page), as the JSON objects that Clair's API answers.
// last is the page's last change.
type ClairNotification func(ctx context.Context, id, after uuid.UUID, limit int) (changes []json.RawMessage, last uuid.UUID, more bool, err error)

// ClairCallback is the message of content mode clair: where to fetch a
// notification. own, the subscription's setting callback, goes before base.
func ClairCallback(base, own, id string) []byte {
	if own != "" {
		base = own
	}
	body, err := json.Marshal(struct {
		ID       string `json:"notification_id"`
		Callback string `json:"callback"`
	}{id, strings.TrimSuffix(base, "/") + "/" + id})
	if err != nil {
		panic("delivery: two strings do not marshal: " + err.Error())
	}
	return body
}

// ClairCallbackSetting is the setting callback of content mode clair.
func ClairCallbackSetting() Setting {
	return Setting{
		Name: "callback", Flag: "callback", Placeholder: "URL",
		Help: "In mode clair: the URL that receivers are referred to, to which the notification's id is appended; this server's by public_url without it.",
	}
}

// CheckClairCallback says what is wrong with that setting.
func CheckClairCallback(sub Subscription) []problem.Field {
	s := sub.Settings.Callback
	if s == "" {
		return nil
	}
	const at = "/protocolsettings/callback"
	if sub.Config.Mode != Clair {
		return []problem.Field{{Field: at, Message: "is for mode clair alone", Hint: "config.mode clair"}}
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return []problem.Field{{Field: at, Message: "is not an http or https URL without user, query and fragment", Hint: "such as https://clair.example.com/notifier/api/v1/notification/"}}
	}
	return nil
}
