package charttest

import (
	"path/filepath"
	"strings"
	"testing"
)

// plainDir has the chart's objects for people who use no Helm, a kustomization
// each. Secrets aren't among them: secrets.sh makes what they are made from.
const plainDir = "../../kubernetes"

// The plain manifests are what the chart makes of these values, without its
// Secrets and its hooks; the servers migrate the database themselves.
func TestPlainManifestsAreTheCharts(t *testing.T) {
	t.Parallel()
	for name, v := range map[string]map[string]any{
		"combo": {},
		"split": {"mode": "split"},
		"external": {
			"mode":       "split",
			"postgresql": map[string]any{"enabled": false, "existingSecret": "tocsin-postgres"},
			"nats":       map[string]any{"enabled": false, "existingSecret": "tocsin-nats"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v["secretKeys"] = map[string]any{"existingSecret": "tocsin-keys"}
			v["migrationJob"] = map[string]any{"enabled": false}
			v["publicURL"] = "http://tocsin.tocsin.svc:6060"
			stream, err := render(t, v)
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			out.WriteString("# Made from deploy/helm/tocsin by `make helm-update`; do not edit.\n")
			for doc := range strings.SplitSeq(stream, "---\n") {
				if !hasContent(doc) || strings.Contains(doc, "\nkind: Secret\n") || strings.Contains(doc, "helm.sh/hook") {
					continue
				}
				doc = strings.ReplaceAll(doc, "app.kubernetes.io/managed-by: Helm", "app.kubernetes.io/managed-by: kustomize")
				out.WriteString("---\n" + doc)
			}
			golden(t, filepath.Join(plainDir, name, "tocsin.yaml"), out.String())
		})
	}
}
