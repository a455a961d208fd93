package broker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"tocsin.dev/tocsin/delivery"
	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/schemas"
)

// Clair makes the messages of content mode clair as Clair's notifier does: where
// to fetch a notification or, with the setting direct, what is in it.
type Clair struct {
	Callback string // base URL
	Read     delivery.ClairNotification
}

const (
	// MaxRollup is how many changes a message may hold.
	MaxRollup = 1000
	clairPage = 500
	// ClairContent and ClairApp are what Clair calls its messages and itself.
	ClairContent, ClairApp = "application/json", "clairV4-notifier"
)

// ClairSettings are the settings of content mode clair on a broker.
func ClairSettings() []delivery.Setting {
	return []delivery.Setting{
		delivery.ClairCallbackSetting(),
		{Name: "direct", Flag: "direct", Help: "In mode clair: send what is in a notification, not where to fetch it."},
		{Name: "rollup", Flag: "rollup", Placeholder: "N", Help: "In mode clair with direct: at most so many changes a message; 1 without it."},
	}
}

// CheckClair says what is wrong with the settings of content mode clair.
func CheckClair(sub delivery.Subscription) []problem.Field {
	problems := delivery.CheckClairCallback(sub)
	s := sub.Settings
	refuse := func(setting, hint, detail string, args ...any) {
		problems = append(problems, problem.Field{Field: "/protocolsettings/" + setting, Message: fmt.Sprintf(detail, args...), Hint: hint})
	}
	switch {
	case s.Direct && sub.Config.Mode != delivery.Clair:
		refuse("direct", "config.mode clair", "is for mode clair alone")
	case s.Rollup != 0 && !s.Direct:
		refuse("rollup", "direct: true", "is for direct messages alone")
	case s.Rollup < 0 || s.Rollup > MaxRollup:
		refuse("rollup", fmt.Sprintf("1 to %d", MaxRollup), "is %d", s.Rollup)
	}
	return problems
}

// Deliver hands the messages of one notification to send, each with an id that
// is the same whenever it is sent, and stops at the first that fails. A
// notification without changes is one empty message.
func (c Clair) Deliver(ctx context.Context, s schemas.ProtocolSettings, m delivery.Message, send func(id string, body []byte) delivery.Outcome) delivery.Outcome {
	if !s.Direct {
		return send(m.EventID, delivery.ClairCallback(c.Callback, s.Callback, m.EventID))
	}
	id, err := uuid.Parse(m.EventID)
	if err != nil || c.Read == nil {
		return delivery.Failure(delivery.Failed(delivery.ClassInvalid, errors.Join(errors.New("this process can't read notifications"), err)))
	}
	size := max(s.Rollup, 1)
	var held []json.RawMessage
	var after uuid.UUID
	out, n := delivery.Delivered(0), 0
	flush := func(changes []json.RawMessage) bool {
		n++
		out = send(fmt.Sprintf("%s.%d", m.EventID, n), array(changes))
		return out.Class == delivery.ClassDelivered
	}
	for {
		page, last, more, err := c.Read(ctx, id, after, clairPage)
		if err != nil {
			return delivery.Failure(fmt.Errorf("read the notification: %w", err))
		}
		held, after = append(held, page...), last
		for len(held) >= size {
			if !flush(held[:size]) {
				return out
			}
			held = held[size:]
		}
		if !more {
			break
		}
	}
	if len(held) > 0 || n == 0 {
		flush(held)
	}
	return out
}

func array(items []json.RawMessage) []byte {
	var b bytes.Buffer
	b.WriteByte('[')
	for i, item := range items {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(item)
	}
	b.WriteByte(']')
	return b.Bytes()
}
