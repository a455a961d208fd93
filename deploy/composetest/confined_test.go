package composetest

import (
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/goccy/go-yaml"
)

// TestEveryServiceIsConfined holds what docker-compose.yml says of every service,
// also one that is added, to the same rules, without an engine.
func TestEveryServiceIsConfined(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	type service struct {
		ReadOnly bool     `yaml:"read_only"`
		CapDrop  []string `yaml:"cap_drop"`
		CapAdd   []string `yaml:"cap_add"`
		Security []string `yaml:"security_opt"`
		Memory   string   `yaml:"mem_limit"`
		PIDs     int      `yaml:"pids_limit"`
		Restart  string   `yaml:"restart"`
		Network  string   `yaml:"network_mode"`
	}
	var file struct{ Services map[string]service }
	if err := yaml.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Services) < 4 {
		t.Fatalf("%d services", len(file.Services))
	}
	for name, s := range file.Services {
		if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Equal(s.Security, []string{"no-new-privileges:true"}) {
			t.Errorf("%s has a writable root, capabilities or a way to new privileges: %+v", name, s)
		}
		if s.Memory == "" || s.PIDs <= 0 {
			t.Errorf("%s has no limit of memory or of processes", name)
		}
		if len(s.CapAdd) > 0 && (s.Network != "none" || s.Restart != "no") {
			t.Errorf("%s runs on with capabilities %v", name, s.CapAdd)
		}
	}
	if m := regexp.MustCompile(`(?i)password[^\n]*:-[^}]`).Find(b); m != nil {
		t.Errorf("a password has a default: %s", m)
	}
}
