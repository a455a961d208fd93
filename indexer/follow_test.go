package indexer

import (
	"errors"
	"testing"

	"tocsin.dev/tocsin/internal/problem"
)

// Tags that match are asked for again on the schedule, and a tag that was given to
// another image stands for that.
func TestFollow(t *testing.T) {
	t.Parallel()
	l := login{"robot", "s3cret-password"}
	host, down := privateRegistry(t, l)
	repository := host + "/team/app"
	for tag, version := range map[string]string{"1.0": "1", "1.1": "2", "2.0": "3"} {
		push(t, repository+":"+tag, imageOf(t, "linux/amd64", alpineWith("musl", version)), l)
	}
	r := newPlace(t).newRig(t, func(o *Options) { o.Keychain = l }).run(t)
	f, err := r.AddFollow(t.Context(), Follow{Image: repository + ":1.*", Schedule: "30 3 1 1 *"})
	if err != nil {
		t.Fatal(err)
	}
	named := func(tag string) string {
		images, err := r.List(t.Context(), Filter{Name: repository + ":" + tag, State: StateIndexed})
		if err != nil || len(images) == 0 {
			return ""
		}
		return images[0].Digest
	}
	eventually(t, "the two tags that match are indexed", func() bool { return named("1.0") != "" && named("1.1") != "" })
	if named("2.0") != "" {
		t.Error("a tag that does not match was asked for")
	}
	due := func() {
		t.Helper()
		if _, err := r.pool.Exec(t.Context(), `UPDATE tocsin.follow SET next_at = now()`); err != nil {
			t.Fatal(err)
		}
	}
	listed := func() Follow {
		t.Helper()
		all, err := r.Follows(t.Context())
		if err != nil || len(all) != 1 {
			t.Fatalf("%v, %v", all, err)
		}
		return all[0]
	}
	eventually(t, "the look is noted", func() bool { got := listed(); return got.LookedAt != nil && got.Images == 2 && got.Reason == "" })
	if next := listed().NextAt.UTC(); next.Month() != 1 || next.Day() != 1 || next.Hour() != 3 || next.Minute() != 30 {
		t.Errorf("the next look is at %v", next)
	}

	was := named("1.1")
	push(t, repository+":1.1", imageOf(t, "linux/amd64", alpineWith("musl", "9")), l)
	due()
	eventually(t, "the tag stands for the new image", func() bool {
		var digest string
		err := r.pool.QueryRow(t.Context(), `SELECT m.digest FROM tocsin.name n JOIN tocsin.manifest m ON m.id = n.manifest_id WHERE n.name = $1`, repository+":1.1").Scan(&digest)
		return err == nil && digest != was
	})

	down.Store(true)
	due()
	eventually(t, "the reason of a failed look is told", func() bool { return listed().Reason != "" })
	down.Store(false)
	due()
	eventually(t, "and forgotten", func() bool { return listed().Reason == "" })

	if again, err := r.AddFollow(t.Context(), Follow{Image: f.Image}); err != nil || again.ID != f.ID || again.Schedule != DefaultFollow {
		t.Errorf("following it again: %+v, %v", again, err)
	}
	if err := r.RemoveFollow(t.Context(), f.Image); err != nil {
		t.Error(err)
	}
	if err := r.RemoveFollow(t.Context(), f.ID.String()); !errors.Is(err, problem.NotFound) {
		t.Errorf("removing it twice: %v", err)
	}
	for _, bad := range []Follow{
		{}, {Image: "registry.example/*/app:1"}, {Image: "registry.example/team/app@sha256:" + named("1.0")[7:]}, {Image: "registry.example/team/app:["},
		{Image: "registry.example/team/app:1", Schedule: "soon"}, {Image: "registry.example/team/app:1", Schedule: "@every 1s"},
		{Image: "registry.example/team/app:1", Schedule: "0 0 30 2 *"}, {Image: "registry.example/team/app:1", Platforms: []string{"a/b/c/d"}}, {Image: "not a name"},
	} {
		if got, err := r.AddFollow(t.Context(), bad); len(Invalid(err)) == 0 {
			t.Errorf("%+v: %+v, %v", bad, got, err)
		}
	}
}
