package cli

import (
	"fmt"
	"net/http"
	"strings"

	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/internal/terminal"
)

type tokensCmd struct {
	List   tokListCmd   `cmd:"" default:"withargs" help:"List tokens (the default)."`
	Create tokCreateCmd `cmd:"" help:"Make a token; it is printed once."`
	Revoke tokRevokeCmd `cmd:"" help:"End tokens for good."`
}

type tokListCmd struct{}

func (tokListCmd) Run(e *env) error {
	cl, err := e.client()
	if err != nil {
		return err
	}
	toks, err := list[v1.Token](cl, "/tokens", nil, 0)
	if err != nil {
		return err
	}
	return e.print(toks, func() error {
		t := terminal.NewTable("ID", "NAME", "OWNER", "SCOPES", "CREATED", "LAST USED", "EXPIRES")
		for _, k := range toks {
			t.Row(e.id(k.ID), k.Name, k.Owner, strings.Join(k.Scopes, " "), e.ago(&k.CreatedAt), e.ago(k.LastUsed), e.ago(k.ExpiresAt))
		}
		return e.table(t, "No tokens.")
	})
}

type tokCreateCmd struct {
	Name    string   `arg:"" help:"A name for people."`
	Scopes  []string `name:"scope" required:"" help:"What it may do: admin, read, publish, subscriptions. May be repeated." placeholder:"SCOPE" predictor:"scope"`
	Owner   string   `help:"Whose subscriptions it sees; default: its name." placeholder:"NAME"`
	Expires string   `help:"When it stops working, as 2026-12-31." placeholder:"TIME"`
}

func (tokCreateCmd) Help() string {
	return "Examples:\n  tocsin tokens create ci --scope publish\n  tocsin tokens create team-a --scope read,subscriptions --expires 2027-01-01"
}

func (c *tokCreateCmd) Run(e *env) error {
	r := v1.TokenRequest{Name: c.Name, Owner: c.Owner, Scopes: c.Scopes}
	if c.Expires != "" {
		t, err := moment(e.now(), c.Expires)
		if err != nil {
			return err
		}
		r.ExpiresAt = &t
	}
	cl, err := e.client()
	if err != nil {
		return err
	}
	var tok v1.Token
	if err := cl.call(http.MethodPost, "/tokens", nil, r, &tok); err != nil {
		return err
	}
	return e.print(tok, func() error {
		e.notef("Shown this once:")
		return e.printf("%s\n", tok.Secret)
	})
}

type tokRevokeCmd struct {
	IDs []string `arg:"" name:"id" help:"Ids or names of tokens."`
}

func (c *tokRevokeCmd) Run(e *env) error {
	cl, err := e.client()
	if err != nil {
		return err
	}
	for _, meant := range c.IDs {
		id, err := cl.tokenID(meant)
		if err != nil {
			return err
		}
		if err := cl.call(http.MethodDelete, "/tokens/"+seg(id), nil, nil, nil); err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
		e.notef("revoked %s", id)
	}
	return nil
}
