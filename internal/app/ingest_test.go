package app

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"tocsin.dev/tocsin/indexer"
	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
)

func (w *site) push(path, body string, headers ...string) (int, v1.Ingested) {
	w.t.Helper()
	r := httptest.NewRequestWithContext(w.t.Context(), http.MethodPost, path, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	answer := httptest.NewRecorder()
	w.s.api.ServeHTTP(answer, r)
	var out v1.Ingested
	if answer.Code < 300 {
		if err := json.Unmarshal(answer.Body.Bytes(), &out); err != nil {
			w.t.Fatal(err)
		}
	}
	return answer.Code, out
}

// What a registry posts becomes jobs, and what it deletes loses its names.
func TestMessagesOfRegistries(t *testing.T) {
	t.Parallel()
	w := newSite(t)
	token := w.tokens["publish"]
	digest := "sha256:" + strings.Repeat("7", 64)
	const event = `{"events":[{"action":"%","target":{"repository":"team/app","tag":"1","digest":""},"request":{"host":"registry.example"}}]}`
	pushed, deleted := strings.Replace(event, "%", "push", 1), strings.Replace(event, "%", "delete", 1)
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("any:"+token))
	for name, auth := range map[string]string{"a bearer's token": "Bearer " + token, "the password of Basic": basic} {
		if status, out := w.push("/ingest/distribution", pushed, "Authorization", auth); status != 202 || len(out.Jobs) != 1 || out.Images[0] != "registry.example/team/app:1" {
			t.Errorf("%s: %d %+v", name, status, out)
		}
	}
	if n := w.count(`SELECT count(*) FROM tocsin.job WHERE payload->'image'->>'reference' = 'registry.example/team/app:1'`); n != 1 {
		t.Errorf("%d jobs, want the one that both share", n)
	}
	if status, out := w.push("/ingest/distribution?registry=public.example", pushed, "Authorization", basic); status != 202 || out.Images[0] != "public.example/team/app:1" {
		t.Errorf("another name of the registry: %d %+v", status, out)
	}

	_, err := w.s.indexer.Submit(t.Context(), indexer.Request{
		Manifest: &indexer.Manifest{Digest: digest, Layers: []indexer.Layer{{Digest: digest, URI: "https://registry.example/x"}}},
		Names:    []string{"registry.example/team/app:1", "registry.example/team/app:2", "registry.example/team/application:1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	names := func() int {
		return w.count(`SELECT count(*) FROM tocsin.name n JOIN tocsin.manifest m ON m.id = n.manifest_id WHERE m.digest = '` + digest + `'`)
	}
	if status, out := w.push("/ingest/distribution", deleted, "Authorization", basic); status != 202 || len(out.Deleted) != 1 || names() != 2 {
		t.Errorf("a tag was deleted: %d %+v, %d names left", status, out, names())
	}
	whole := strings.NewReplacer(`"tag":"1"`, `"tag":""`, `"digest":""`, `"digest":"`+digest+`"`).Replace(deleted)
	if status, _ := w.push("/ingest/distribution", whole, "Authorization", basic); status != 202 || names() != 1 {
		t.Errorf("the image was deleted: %d, %d names left, want that of another repository", status, names())
	}

	for name, c := range map[string]struct {
		path, body, auth string
		want             int
	}{
		"no token":          {"/ingest/distribution", pushed, "", 401},
		"a wrong token":     {"/ingest/distribution", pushed, "Bearer x", 401},
		"a wrong password":  {"/ingest/distribution", pushed, "Basic eDp5", 401},
		"a reader":          {"/ingest/distribution", pushed, "Bearer " + w.tokens["read"], 403},
		"no such sender":    {"/ingest/nosuch", pushed, basic, 404},
		"not JSON":          {"/ingest/harbor", "<x/>", basic, 422},
		"a hostile host":    {"/ingest/distribution", strings.Replace(pushed, "registry.example", "http://169.254.169.254", 1), basic, 422},
		"a hostile name":    {"/ingest/distribution?registry=u:p@h.example", pushed, basic, 422},
		"too large":         {"/ingest/distribution", strings.Repeat(" ", 1<<20) + pushed, basic, 413},
		"unsigned, GitHub":  {"/ingest/github", `{"zen":"x"}`, "", 401},
		"signed for others": {"/ingest/harbor", "signed", "", 401},
	} {
		var headers []string
		if c.auth != "" {
			headers = []string{"Authorization", c.auth}
		}
		if status, _ := w.push(c.path, c.body, headers...); status != c.want {
			t.Errorf("%s: %d, want %d", name, status, c.want)
		}
	}
}

func TestSignedMessagesOfGitHub(t *testing.T) {
	t.Parallel()
	w := newSite(t)
	body := `{"action":"published","registry_package":{"name":"app","namespace":"org","package_type":"CONTAINER","package_version":{"container_metadata":{"tag":{"name":"main"}}}}}`
	sign := func(key string) string {
		m := hmac.New(sha256.New, []byte(key))
		m.Write([]byte(body))
		return "sha256=" + hex.EncodeToString(m.Sum(nil))
	}
	if status, out := w.push("/ingest/github", body, "X-Hub-Signature-256", sign(siteSecret)); status != 202 || len(out.Jobs) != 1 {
		t.Errorf("signed: %d %+v", status, out)
	}
	for name, headers := range map[string][]string{
		"another key": {"X-Hub-Signature-256", sign("other")}, "none": nil, "of another body": {"X-Hub-Signature-256", sign(siteSecret)[:70] + "0"},
	} {
		if status, _ := w.push("/ingest/github", body, headers...); status != 401 {
			t.Errorf("%s: %d", name, status)
		}
	}
	if status, _ := w.push("/ingest/quay", body, "X-Hub-Signature-256", sign(siteSecret)); status != 401 {
		t.Errorf("to another sender's route: %d", status)
	}
}

func (w *site) count(query string) (n int) {
	w.t.Helper()
	if err := w.pool.QueryRow(w.t.Context(), query).Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}
