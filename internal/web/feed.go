package web

import (
	"net/http"
	"net/url"
	"time"

	"tocsin.dev/tocsin/internal/access"
	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
)

func (v *visit) feeds() error {
	var list v1.Page[v1.UpdaterSet]
	if err := v.get("/updaters", nil, &list); err != nil {
		return err
	}
	v.show(http.StatusOK, "feeds", "Feeds", list.Items)
	return nil
}

func (v *visit) runFeeds() error {
	req := v1.UpdateRequest{Set: v.r.PostForm.Get("set"), Accept: v.r.PostForm.Get("accept") != ""}
	if err := v.ask(http.MethodPost, "/updates", nil, req, nil); err != nil {
		return err
	}
	if req.Accept {
		return v.done("/ui/feeds", "accepted")
	}
	return v.done("/ui/feeds", "queued")
}

type jobsPage struct {
	Kind, State string
	Jobs        []v1.Job
	Next        string
}

func (v *visit) jobs() error {
	in := v.r.URL.Query()
	p := jobsPage{Kind: in.Get("kind"), State: in.Get("state")}
	q := url.Values{"limit": {"50"}}
	for k, val := range map[string]string{"kind": p.Kind, "state": p.State, "cursor": in.Get("cursor")} {
		if val != "" {
			q.Set(k, val)
		}
	}
	var list v1.Page[v1.Job]
	if err := v.get("/jobs", q, &list); err != nil {
		return err
	}
	p.Jobs, p.Next = list.Items, following(v.r, list.Next)
	v.show(http.StatusOK, "jobs", "Jobs", p)
	return nil
}

func (v *visit) retryJob() error {
	if err := v.ask(http.MethodPost, "/jobs/"+url.PathEscape(v.r.PathValue("id"))+"/retry", nil, nil, nil); err != nil {
		return err
	}
	return v.done("/ui/jobs", "queued")
}

type tokensPage struct {
	Tokens []v1.Token
	Scopes []access.Scope
	Made   *v1.Token
	Own    string // id of the token that is logged in
}

func (v *visit) tokens() error { return v.showTokens(nil) }

func (v *visit) showTokens(made *v1.Token) error {
	var list v1.Page[v1.Token]
	if err := v.get("/tokens", nil, &list); err != nil {
		return err
	}
	v.show(http.StatusOK, "tokens", "Tokens", tokensPage{Tokens: list.Items, Scopes: access.Scopes, Made: made, Own: v.who.Token})
	return nil
}

func (v *visit) makeToken() error {
	req := v1.TokenRequest{Name: v.r.PostForm.Get("name"), Owner: v.r.PostForm.Get("owner"), Scopes: v.r.PostForm["scope"]}
	if days, err := time.ParseDuration(v.r.PostForm.Get("life")); err == nil && days > 0 {
		end := v.Now().Add(days)
		req.ExpiresAt = &end
	}
	var made v1.Token
	if err := v.ask(http.MethodPost, "/tokens", nil, req, &made); err != nil {
		return err
	}
	return v.showTokens(&made)
}

func (v *visit) revokeToken() error {
	if err := v.ask(http.MethodDelete, "/tokens/"+url.PathEscape(v.r.PathValue("id")), nil, nil, nil); err != nil {
		return err
	}
	return v.done("/ui/tokens", "revoked")
}
