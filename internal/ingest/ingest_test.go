package ingest_test

import (
	"fmt"
	"strings"
	"testing"

	"tocsin.dev/tocsin/internal/ingest"
)

const digest = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

func TestSenders(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ kind, registry, body, want string }{
		"distribution": {"distribution", "", `{"events":[
{"id":"1","action":"push","target":{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` + digest + `","repository":"team/app","tag":"1.4"},"request":{"host":"registry.example:5000"}},
{"id":"2","action":"push","target":{"mediaType":"application/octet-stream","digest":"` + digest + `","repository":"team/app"},"request":{"host":"registry.example:5000"}},
{"id":"3","action":"pull","target":{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` + digest + `","repository":"team/app"},"request":{"host":"registry.example:5000"}},
{"id":"4","action":"push","target":{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` + digest + `","repository":"team/app","tag":"1.4"},"request":{"host":"registry.example:5000"}},
{"id":"5","action":"delete","target":{"digest":"` + digest + `","repository":"team/old"},"request":{"host":"registry.example:5000"}}]}`,
			"registry.example:5000/team/app:1.4 -registry.example:5000/team/old@" + digest},
		"distribution behind another name": {"distribution", "public.example", `{"events":[{"action":"push","target":{"digest":"` + digest + `","repository":"a/b"},"request":{"host":"internal:5000"}}]}`,
			"public.example/a/b@" + digest},
		"harbor": {"harbor", "", `{"type":"PUSH_ARTIFACT","occur_at":1,"operator":"admin","event_data":{"resources":[
{"digest":"` + digest + `","tag":"v2","resource_url":"harbor.example/lib/app:v2"},{"digest":"` + digest + `","tag":"` + digest + `","resource_url":"harbor.example:8443/lib/app@` + digest + `"}],"repository":{"name":"app"}}}`,
			"harbor.example/lib/app:v2 harbor.example:8443/lib/app@" + digest},
		"harbor deletes": {"harbor", "", `{"type":"DELETE_ARTIFACT","event_data":{"resources":[{"digest":"` + digest + `","tag":"v1","resource_url":"harbor.example/lib/app:v1"}]}}`,
			"-harbor.example/lib/app:v1"},
		"harbor scans":  {"harbor", "", `{"type":"SCANNING_COMPLETED","event_data":{"resources":[{"digest":"x"}]}}`, ""},
		"quay":          {"quay", "", `{"name":"app","repository":"ns/app","docker_url":"quay.example/ns/app","updated_tags":["latest","v1"]}`, "quay.example/ns/app:latest quay.example/ns/app:v1"},
		"quay, older":   {"quay", "", `{"docker_url":"quay.example/ns/app","updated_tags":{"latest":"abc"}}`, "quay.example/ns/app:latest"},
		"quay, another": {"quay", "", `{"docker_url":"quay.example/ns/app","vulnerability":{"id":"CVE"}}`, ""},
		"github": {"github", "", `{"action":"published","registry_package":{"name":"App","namespace":"Octo-Org","package_type":"CONTAINER","package_version":{"version":"` + digest + `","container_metadata":{"tag":{"name":"main","digest":"` + digest + `"}}}}}`,
			"ghcr.io/octo-org/app:main"},
		"github without a tag": {"github", "", `{"action":"updated","package":{"name":"app","namespace":"o","ecosystem":"CONTAINER","package_version":{"version":"` + digest + `"}}}`, "ghcr.io/o/app@" + digest},
		"github, npm":          {"github", "", `{"action":"published","registry_package":{"name":"x","namespace":"o","package_type":"npm","package_version":{}}}`, ""},
		"github, ping":         {"github", "", `{"zen":"Keep it logically awesome.","hook_id":1}`, ""},
		"acr": {"acr", "", `{"id":"1","action":"push","target":{"mediaType":"application/vnd.docker.distribution.manifest.v2+json","digest":"` + digest + `","repository":"app","tag":"v1"},"request":{"host":"my.azurecr.io"}}`,
			"my.azurecr.io/app:v1"},
		"acr, CloudEvents": {"acr", "", `{"specversion":"1.0","type":"Microsoft.ContainerRegistry.ImageDeleted","source":"/x","id":"1","data":{"action":"delete","target":{"digest":"` + digest + `","repository":"app"},"request":{"host":"my.azurecr.io"}}}`,
			"-my.azurecr.io/app@" + digest},
		"acr, Event Grid": {"acr", "", `[{"eventType":"Microsoft.ContainerRegistry.ImagePushed","data":{"action":"push","target":{"repository":"app","tag":"v1"},"request":{"host":"my.azurecr.io"}}}]`, "my.azurecr.io/app:v1"},
		"ecr": {"ecr", "", `{"version":"0","detail-type":"ECR Image Action","source":"aws.ecr","account":"123456789012","region":"us-west-2","detail":{"result":"SUCCESS","repository-name":"my/app","image-digest":"` + digest + `","action-type":"PUSH","image-tag":"latest"}}`,
			"123456789012.dkr.ecr.us-west-2.amazonaws.com/my/app:latest"},
		"ecr, CloudEvents": {"ecr", "", `{"specversion":"1.0","id":"1","source":"aws.ecr","type":"ECR Image Action","account":"1","region":"cn-north-1","data":{"result":"SUCCESS","repository-name":"app","image-digest":"` + digest + `","action-type":"DELETE"}}`,
			"-1.dkr.ecr.cn-north-1.amazonaws.com.cn/app@" + digest},
		"ecr, failed": {"ecr", "", `{"account":"1","region":"r","detail":{"result":"FAILURE","repository-name":"a","action-type":"PUSH","image-tag":"t"}}`, ""},
	} {
		got, err := ingest.Parse(c.kind, c.registry, []byte(c.body))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var words []string
		for _, ch := range got {
			sign := ""
			if ch.Deleted {
				sign = "-"
			}
			words = append(words, sign+ch.Reference())
		}
		if s := strings.Join(words, " "); s != c.want {
			t.Errorf("%s: %q, want %q", name, s, c.want)
		}
	}
}

func TestHostileMessages(t *testing.T) {
	t.Parallel()
	push := func(host, repository, tag, digest string) string {
		return fmt.Sprintf(`{"events":[{"action":"push","target":{"repository":%q,"tag":%q,"digest":%q},"request":{"host":%q}}]}`, repository, tag, digest, host)
	}
	for name, body := range map[string]string{
		"nothing": "", "not JSON": "<x/>", "a list": "[]", "no events": "{}", "cut": `{"events":[{"action":"push"`, "a wrong type": `{"events":[{"action":7}]}`,
		"no host": push("", "a/b", "t", ""), "no tag and no digest": push("h.example", "a/b", "", ""), "no repository": push("h.example", "", "t", ""),
		"a path":     push("h.example", "../../etc/passwd", "t", ""),
		"a URL":      push("http://169.254.169.254", "latest/meta-data", "t", ""),
		"a user":     push("u:p@h.example", "a/b", "t", ""),
		"spaces":     push("h.example", "a b", "t", ""),
		"controls":   push("h.example", "a\x00b", "t", ""),
		"a flag":     push("h.example", "a/b", "-o", ""),
		"a digest":   push("h.example", "a/b", "", "sha256:zz"),
		"a long one": push("h.example", strings.Repeat("a/", 400)+"b", "t", ""),
		"deep":       `{"events":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + "}",
		"many": `{"events":[` + strings.Repeat(`{"action":"push","target":{"repository":"a/b","tag":"t"},"request":{"host":"h.example"}},`, 1001) +
			`{"action":"push","target":{"repository":"a/b","tag":"t"},"request":{"host":"h.example"}}]}`,
	} {
		got, err := ingest.Parse("distribution", "", []byte(body))
		if err == nil {
			t.Errorf("%s: it is %v", name, got)
		} else if len(err.Error()) > 500 || strings.ContainsRune(err.Error(), 0) {
			t.Errorf("%s: the error is %q", name, err)
		}
	}
	for _, kind := range ingest.Kinds {
		for _, body := range []string{"", "null", "{}", "[]", "7", `"x"`, `{"data":{}}`, `{"data":null}`, `{"event_data":null,"type":"PUSH_ARTIFACT"}`, `{"package":{}}`} {
			if got, err := ingest.Parse(kind, "", []byte(body)); err == nil && len(got) > 0 {
				t.Errorf("%s makes %v of %s", kind, got, body)
			}
		}
	}
	if _, err := ingest.Parse("nosuch", "", []byte("{}")); err == nil {
		t.Error("a sender that there is none of")
	}
}

func TestGitHubSignature(t *testing.T) {
	t.Parallel()
	// The example of GitHub's documentation.
	const secret, body, signature = "It's a Secret to Everybody", "Hello, World!", "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
	if !ingest.VerifyGitHub(secret, signature, []byte(body)) {
		t.Error("the right signature is refused")
	}
	for _, bad := range []string{"", "sha256=", signature[7:], "sha1=" + signature[7:], signature[:70] + "0", "sha256=zz"} {
		if ingest.VerifyGitHub(secret, bad, []byte(body)) {
			t.Errorf("%q is taken", bad)
		}
	}
	if ingest.VerifyGitHub("", signature, []byte(body)) {
		t.Error("a signature is taken without a secret")
	}
}
