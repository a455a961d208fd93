package notifier

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/internal/secrets"
	"tocsin.dev/tocsin/internal/standardwebhooks"
	"tocsin.dev/tocsin/notifier/eventlog"
	"tocsin.dev/tocsin/notifier/subscription"
	"tocsin.dev/tocsin/schemas"
)

const aSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

func plain() *schemas.SinkCredential {
	return &schemas.SinkCredential{CredentialType: schemas.CredentialPlain, Identifier: "tocsin", Secret: "hunter2"}
}

func TestSubscriptionLife(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	s, created, err := w.subs.Create(ctx, "payments", schemas.Subscription{
		Name: "n", Sink: "https://example.com/hook", SinkCredential: plain(), Labels: map[string]string{"a": "b"},
		Filters: []schemas.Filter{{SQL: "fixable"}}, Config: schemas.SubscriptionConfig{Timeout: schemas.Duration(5 * time.Second)},
	})
	if err != nil || !created {
		t.Fatal(created, err)
	}
	if s.Protocol != schemas.ProtocolHTTP || s.Owner != "payments" || s.State != schemas.StateActive || s.Version != 1 ||
		!strings.HasPrefix(s.Secret, "whsec_") || len(s.Secrets) != 1 || s.Secrets[0].Kind != standardwebhooks.KindHMAC || s.SinkCredential.Secret != "" {
		t.Errorf("created %+v", s)
	}
	made := s.Secret
	s, err = w.subs.Get(ctx, "payments", s.ID)
	if err != nil || s.Secret != "" || s.SinkCredential.Identifier != "tocsin" || time.Duration(s.Config.Timeout) != 5*time.Second || s.Labels["a"] != "b" {
		t.Errorf("read %+v, %v", s, err)
	}

	// Others do not see it.
	for what, err := range map[string]error{
		"get":    second(w.subs.Get(ctx, "other", s.ID)),
		"pause":  second(w.subs.Pause(ctx, "other", s.ID)),
		"put":    second(w.subs.Replace(ctx, "other", s.ID, s)),
		"rotate": second(w.subs.Rotate(ctx, "other", s.ID, subscription.Rotation{})),
		"ping":   second(w.Ping(ctx, "other", s.ID)),
		"delete": w.subs.Delete(ctx, "other", s.ID),
		"bad id": second(w.subs.Get(ctx, "payments", "../x")),
	} {
		if !errors.Is(err, problem.NotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if list, _, err := w.subs.List(ctx, "other", "", 0); err != nil || len(list) != 0 {
		t.Errorf("another's list: %+v, %v", list, err)
	}

	// Replacing: versions, and secrets that the client never saw.
	s.Name = "m"
	next, err := w.subs.Replace(ctx, "payments", s.ID, s)
	if err != nil || next.Name != "m" || next.Version != 2 {
		t.Fatalf("%+v, %v", next, err)
	}
	if _, err := w.subs.Replace(ctx, "payments", s.ID, s); !errors.Is(err, problem.Conflict) {
		t.Errorf("an old version: %v", err)
	}
	target := func() schemas.Target {
		t.Helper()
		all, err := w.subs.Targets(ctx, []uuid.UUID{uuid.MustParse(s.ID), uuid.New()})
		if err != nil {
			t.Fatal(err)
		}
		return all[uuid.MustParse(s.ID)]
	}
	if got := target(); got.Credential.Secret != "hunter2" || len(got.SigningSecrets) != 1 || got.SigningSecrets[0] != made {
		t.Errorf("target %+v", got)
	}
	moved := next
	moved.Sink, moved.Version = "https://attacker.example/", 0
	if _, err := w.subs.Replace(ctx, "payments", s.ID, moved); err == nil || !strings.Contains(err.Error(), "given again") {
		t.Errorf("the password would have gone to another host: %v", err)
	}
	moved.SinkCredential = nil
	if _, err := w.subs.Replace(ctx, "payments", s.ID, moved); err != nil {
		t.Error(err)
	}
	if got := target(); got.Credential != nil {
		t.Errorf("a credential is left: %+v", got.Credential)
	}

	// States.
	for _, step := range []struct {
		do    func(context.Context, string, string) (schemas.Subscription, error)
		state string
	}{{w.subs.Pause, "paused"}, {w.subs.Pause, "paused"}, {w.subs.Resume, "active"}, {w.subs.Resume, "active"}} {
		got, err := step.do(ctx, "", s.ID)
		if err != nil || got.State != step.state || got.Config.Paused != (step.state == "paused") {
			t.Errorf("%+v, %v, want %s", got, err, step.state)
		}
	}
	// Resuming one that is active is a change, which ends what its lane waits for.
	before := target().Subscription.Version
	if _, err := w.subs.Resume(ctx, "", s.ID); err != nil {
		t.Error(err)
	}
	if got := target().Subscription.Version; got <= before {
		t.Errorf("version %d after %d: resuming changed nothing", got, before)
	}
	if err := w.subs.Delete(ctx, "payments", s.ID); err != nil {
		t.Fatal(err)
	}
	if got := target(); got.Subscription.ID != "" {
		t.Error("a deleted subscription has a target")
	}
	if err := w.subs.Delete(ctx, "payments", s.ID); !errors.Is(err, problem.NotFound) {
		t.Errorf("deleted twice: %v", err)
	}
	if n := w.count(t, `SELECT count(*) FROM tocsin.secret`); n != 0 {
		t.Errorf("%d secrets are left", n)
	}
}

func second[T any](_ T, err error) error { return err }

func TestCreationIsIdempotent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	spec := schemas.Subscription{Key: "terraform-1", Sink: "https://example.com/hook"}
	var wg sync.WaitGroup
	ids := make([]string, 8)
	var made int
	var mu sync.Mutex
	for i := range ids {
		wg.Go(func() {
			s, created, err := w.subs.Create(t.Context(), "a", spec)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			ids[i] = s.ID
			if created {
				made++
			}
			if created != (s.Secret != "") {
				t.Errorf("created %t, secret %q", created, s.Secret)
			}
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Errorf("several subscriptions of one key: %v", ids)
		}
	}
	if made != 1 || w.count(t, `SELECT count(*) FROM tocsin.secret`) != 1 {
		t.Errorf("made %d", made)
	}
	spec.Sink = "https://example.com/other"
	if _, _, err := w.subs.Create(t.Context(), "a", spec); !errors.Is(err, problem.Conflict) {
		t.Errorf("another object with the key: %v", err)
	}
	if _, created, err := w.subs.Create(t.Context(), "b", spec); err != nil || !created {
		t.Errorf("another owner: %t, %v", created, err)
	}
	if err := w.subs.Delete(t.Context(), "a", ids[0]); err != nil {
		t.Fatal(err)
	}
	if _, created, err := w.subs.Create(t.Context(), "a", spec); err != nil || !created {
		t.Errorf("the key of a deleted one: %t, %v", created, err)
	}
}

func TestListPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 7 {
		w.webhook(t, func(s *schemas.Subscription) { s.Name = fmt.Sprint(i) })
	}
	var names []string
	for cursor := ""; ; {
		list, next, err := w.subs.List(t.Context(), "", cursor, 3)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range list {
			names = append(names, s.Name)
			if len(s.Secrets) != 1 {
				t.Errorf("%s: %d secrets", s.Name, len(s.Secrets))
			}
		}
		if cursor = next; cursor == "" {
			break
		}
	}
	if strings.Join(names, "") != "0123456" {
		t.Errorf("%v", names)
	}
}

func TestRotation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	s := w.webhook(t, func(s *schemas.Subscription) { s.Secret = aSecret })
	if s.Secret != "" {
		t.Error("a secret that the client brought was returned")
	}
	id := uuid.MustParse(s.ID)
	signing := func() []string {
		all, err := w.subs.Targets(ctx, []uuid.UUID{id})
		if err != nil {
			t.Fatal(err)
		}
		return all[id].SigningSecrets
	}
	rotated, err := w.subs.Rotate(ctx, "", s.ID, subscription.Rotation{Kind: standardwebhooks.KindEd25519, Overlap: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(rotated.Secret, "whsk_") || len(rotated.Secrets) != 2 || !strings.HasPrefix(rotated.Secrets[0].PublicKey, "whpk_") ||
		rotated.Secrets[0].ExpiresAt != nil || rotated.Secrets[1].ExpiresAt == nil || time.Until(*rotated.Secrets[1].ExpiresAt) > time.Hour || rotated.Version != s.Version+1 {
		t.Errorf("rotated %+v", rotated.Secrets)
	}
	if got := signing(); len(got) != 2 || got[0] != rotated.Secret || got[1] != aSecret {
		t.Errorf("signs with %d secrets", len(got))
	}
	targets, err := w.subs.Targets(ctx, []uuid.UUID{id})
	if until := targets[id].SigningUntil; err != nil || len(until) != 1 || time.Until(until[aSecret]).Round(time.Minute) != time.Hour {
		t.Errorf("the old secret signs until %v, %v", until, err)
	}
	rotated, err = w.subs.Rotate(ctx, "", s.ID, subscription.Rotation{})
	if err != nil {
		t.Fatal(err)
	}
	if got := signing(); len(got) != 1 || got[0] != rotated.Secret || len(rotated.Secrets) != 1 {
		t.Errorf("without overlap it signs with %d secrets", len(got))
	}
	for range 8 - 1 {
		if _, err := w.subs.Rotate(ctx, "", s.ID, subscription.Rotation{Overlap: time.Hour}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.subs.Rotate(ctx, "", s.ID, subscription.Rotation{Overlap: time.Hour}); !errors.Is(err, problem.Conflict) {
		t.Errorf("too many: %v", err)
	}
	for _, r := range []subscription.Rotation{{Secret: "whsec_"}, {Kind: "v2"}, {Overlap: -1}, {Overlap: 31 * 24 * time.Hour}} {
		if _, err := w.subs.Rotate(ctx, "", s.ID, r); err == nil {
			t.Errorf("%+v: taken", r)
		}
	}
}

func TestSecretsAreSealed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	s := w.webhook(t, func(s *schemas.Subscription) { s.Secret, s.SinkCredential = aSecret, plain() })
	id := uuid.MustParse(s.ID)
	dump, err := w.Pool.Query(ctx, `SELECT s::text FROM tocsin.subscription s UNION ALL SELECT s::text || encode(sealed, 'escape') FROM tocsin.secret s`)
	if err != nil {
		t.Fatal(err)
	}
	for dump.Next() {
		var text string
		if err := dump.Scan(&text); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(text, "hunter2") || strings.Contains(text, aSecret[6:]) {
			t.Errorf("in clear: %s", text)
		}
	}
	got, err := w.subs.Get(ctx, "", s.ID)
	text, _ := json.Marshal(got)
	if err != nil || bytes.Contains(text, []byte("hunter2")) || bytes.Contains(text, []byte(aSecret)) {
		t.Errorf("on the wire: %s", text)
	}

	// Exchanging the key: the new one seals, both open, then the old one goes.
	fresh := bytes.Repeat([]byte{8}, secrets.KeySize)
	ring := func(keys ...[]byte) func(*options) {
		return func(o *options) {
			if o.Keyring, err = secrets.New(keys...); err != nil {
				t.Fatal(err)
			}
		}
	}
	wrong := replica(t, w.Pool, ring(fresh))
	targets, err := wrong.subs.Targets(ctx, []uuid.UUID{id})
	if tg := targets[id]; err != nil || tg.Subscription.State != schemas.StatePaused || !strings.Contains(tg.Subscription.Reason, "key") || len(tg.SigningSecrets) != 0 {
		t.Errorf("without the key: %+v, %v", tg.Subscription, err)
	}
	if n, err := wrong.subs.Reseal(ctx); err != nil || n != 0 {
		t.Errorf("without the key: resealed %d, %v; want none, which are left as they are", n, err)
	}
	both := replica(t, w.Pool, ring(fresh, bytes.Repeat([]byte{7}, secrets.KeySize)))
	if n, err := both.subs.Reseal(ctx); err != nil || n != 2 {
		t.Errorf("resealed %d, %v", n, err)
	}
	targets, err = wrong.subs.Targets(ctx, []uuid.UUID{id})
	if tg := targets[id]; err != nil || tg.Credential == nil || tg.Credential.Secret != "hunter2" || tg.SigningSecrets[0] != aSecret {
		t.Errorf("with the new key alone: %+v, %v", tg.Subscription, err)
	}
	if strings.Contains(w.logs.String()+wrong.logs.String(), "hunter2") {
		t.Error("logged")
	}
}

func TestPing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	one := w.webhook(t, nil, exactly("severity", "Critical"))
	two := w.webhook(t, nil)
	id, err := w.Ping(ctx, "", one.ID)
	if err != nil {
		t.Fatal(err)
	}
	if got := w.owed.of(t, one.ID); len(got) != 1 || got[0].String() != id {
		t.Errorf("deliveries %v", got)
	}
	if got := w.owed.of(t, two.ID); len(got) != 0 {
		t.Errorf("another got it: %v", got)
	}
	e, err := w.Log.Event(ctx, uuid.MustParse(id))
	if err != nil {
		t.Fatal(err)
	}
	validateEvent(t, e)
	if n := w.count(t, `SELECT count(*) FROM tocsin.outbox`); n != 0 {
		t.Errorf("%d in the outbox", n)
	}
	if page, err := w.Log.List(ctx, eventlog.Query{}); err != nil || len(page.Items) != 0 {
		t.Errorf("%d in the list, %v", len(page.Items), err)
	}
}
