// Package charttest renders the Helm chart with Helm's own engine and holds the
// objects to what the chart promises. It is a module of its own, so that the
// product does not depend on Helm and Kubernetes.
package charttest

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the golden files and the plain manifests")

const chartDir = "../tocsin"

func load(t *testing.T) *chart.Chart {
	t.Helper()
	c, err := loader.Load(chartDir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// valueSets are the names of the files in testdata/values, without their ending.
func valueSets(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/values/*.yaml")
	if err != nil || len(files) < 6 {
		t.Fatalf("%d sets of values, want at least 6 (%v)", len(files), err)
	}
	for i, f := range files {
		files[i] = strings.TrimSuffix(filepath.Base(f), ".yaml")
	}
	return files
}

func values(t *testing.T, set string) map[string]any {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata/values", set+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var v map[string]any
	if err := yaml.UnmarshalStrict(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// render is what Helm makes of the chart with the values, as one stream of
// documents in the order of their files.
func render(t *testing.T, v map[string]any) (string, error) {
	t.Helper()
	c := load(t)
	release := common.ReleaseOptions{Name: "tocsin", Namespace: "security", Revision: 1, IsInstall: true}
	all, err := util.ToRenderValues(c, v, release, common.DefaultCapabilities)
	if err != nil {
		return "", err
	}
	files, err := engine.Render(c, all)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(files)) {
		text := strings.TrimSpace(files[name])
		if !strings.HasSuffix(name, ".yaml") || text == "" {
			continue
		}
		for doc := range strings.SplitSeq(text, "\n---") {
			if doc = strings.TrimSpace(strings.TrimPrefix(doc, "---")); hasContent(doc) {
				out.WriteString("---\n" + doc + "\n")
			}
		}
	}
	return out.String(), nil
}

func hasContent(doc string) bool {
	for line := range strings.Lines(doc) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			return true
		}
	}
	return false
}

func TestGolden(t *testing.T) {
	t.Parallel()
	for _, set := range valueSets(t) {
		t.Run(set, func(t *testing.T) {
			t.Parallel()
			got, err := render(t, values(t, set))
			if err != nil {
				t.Fatal(err)
			}
			golden(t, filepath.Join("testdata/golden", set+".yaml"), got)
		})
	}
}

// golden compares text with a file, or writes it there with -update.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s differs; `make helm-update` writes it anew (-want +got):\n%s", file, d)
	}
}
