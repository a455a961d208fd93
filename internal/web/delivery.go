package web

import (
	"encoding/json"
	"net/http"
	"net/url"

	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
)

type deliveryPage struct {
	v1.Delivery
	Name     string // of the subscription
	Attempts []v1.Attempt
}

func (v *visit) delivery() error {
	id := url.PathEscape(v.r.PathValue("id"))
	var p deliveryPage
	if err := v.get("/deliveries/"+id, nil, &p.Delivery); err != nil {
		return err
	}
	var list v1.Page[v1.Attempt]
	if err := v.get("/deliveries/"+id+"/attempts", nil, &list); err != nil {
		return err
	}
	p.Attempts = list.Items
	names, err := v.subscriptionNames()
	if err != nil {
		return err
	}
	p.Name = names[p.Subscription]
	v.show(http.StatusOK, "delivery", "Delivery", p)
	return nil
}

func (v *visit) changeDelivery() error {
	id, what := url.PathEscape(v.r.PathValue("id")), v.r.PathValue("what")
	notice, ok := map[string]string{"replay": "replayed", "drop": "dropped"}[what]
	if !ok {
		return v.nowhere()
	}
	if err := v.ask(http.MethodPost, "/deliveries/"+id+"/"+what, nil, nil, nil); err != nil {
		return err
	}
	return v.done("/ui/deliveries/"+id, notice)
}

// indented is a value as JSON for people.
func indented(x any) string {
	b, err := json.MarshalIndent(x, "", "  ")
	if err != nil {
		return ""
	}
	return string(b)
}
