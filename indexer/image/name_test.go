package image

import (
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func TestLayoutName(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ containerd, ref, tag, want string }{
		{"", "", "", "app"},
		{"", "1.0", "", "app:1.0"},
		{"", "app", "", "app"},
		{"", "", "app", "app"},
		{"", "app:1.0", "", "app:1.0"},
		{"", "registry.example/team/app", "", "registry.example/team/app"},
		{"registry.example/team/app:2", "2", "", "registry.example/team/app:2"},
	} {
		d := v1.Descriptor{Annotations: map[string]string{containerdName: tc.containerd, refName: tc.ref}}
		if got := layoutName("/layouts/app", tc.tag, d); got != tc.want {
			t.Errorf("%+v: %s", tc, got)
		}
	}
}
