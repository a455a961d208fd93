package web

import (
	"cmp"
	"net/http"
	"slices"

	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
)

func (v *visit) doctor() error {
	var d v1.Doctor
	if err := v.get("/doctor", nil, &d); err != nil {
		return err
	}
	rank := map[string]int{"failed": 0, "warning": 1, "ok": 2}
	slices.SortStableFunc(d.Checks, func(a, b v1.Check) int { return cmp.Compare(rank[a.Status], rank[b.Status]) })
	v.show(http.StatusOK, "doctor", "Doctor", d.Checks)
	return nil
}
