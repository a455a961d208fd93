package web

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/schemas"
)

type imagesPage struct {
	Name, State string
	Images      []v1.Image
	Next        string
}

func (v *visit) images() error {
	in := v.r.URL.Query()
	p := imagesPage{Name: strings.TrimSpace(in.Get("name")), State: in.Get("state")}
	q := url.Values{"limit": {"50"}}
	for k, val := range map[string]string{"name": pattern(p.Name), "state": p.State, "cursor": in.Get("cursor")} {
		if val != "" {
			q.Set(k, val)
		}
	}
	if strings.HasPrefix(p.Name, "sha256:") && len(p.Name) == len("sha256:")+64 {
		http.Redirect(v.w, v.r, "/ui/images/"+url.PathEscape(p.Name), http.StatusSeeOther)
		return nil
	}
	var list v1.Page[v1.Image]
	if err := v.get("/images", q, &list); err != nil {
		return err
	}
	p.Images, p.Next = list.Items, following(v.r, list.Next)
	v.show(http.StatusOK, "images", "Images", p)
	return nil
}

func (v *visit) indexImage() error {
	err := v.ask(http.MethodPost, "/images", nil, v1.ImageRequest{Image: strings.TrimSpace(v.r.PostForm.Get("image"))}, nil)
	if err != nil {
		return err
	}
	return v.done("/ui/jobs", "queued")
}

func (v *visit) forgetImage() error {
	if err := v.ask(http.MethodDelete, "/images/"+url.PathEscape(v.r.PathValue("ref")), nil, nil, nil); err != nil {
		return err
	}
	return v.done("/ui/images", "forgotten")
}

// A packageFindings is what is known against one package of an image.
type packageFindings struct {
	Package  schemas.Package
	Findings []schemas.Finding
	Fix      string // a version that is free of all that a version is known to fix
}

// byPackage groups findings, whose worst come first, by package: the package
// with the worst finding first.
func byPackage(findings []schemas.Finding) []packageFindings {
	type key struct{ name, version, arch string }
	at := map[key]int{}
	var out []packageFindings
	for _, f := range findings {
		k := key{f.Package.Name, f.Package.Version, f.Package.Arch}
		i, ok := at[k]
		if !ok {
			i = len(out)
			at[k] = i
			out = append(out, packageFindings{Package: f.Package})
		}
		out[i].Findings = append(out[i].Findings, f)
	}
	return out
}

type imagePage struct {
	Image    v1.Image
	Others   []v1.Image // of the same name, on other platforms
	Report   *v1.Report
	Packages []packageFindings
	Why      string // there is no report
	Severity string // only these are listed
	Fixable  bool
	Listed   int
	History  []event
}

// image shows one image, or those that a name stands for.
func (v *visit) image() error {
	ref := v.r.PathValue("ref")
	var found v1.Page[v1.Image]
	if err := v.get("/images", url.Values{"ref": {ref}}, &found); err != nil {
		return err
	}
	if len(found.Items) == 0 {
		return &problem{Status: http.StatusNotFound, Detail: "There is no image " + ref + "."}
	}
	p := imagePage{Image: found.Items[0], Others: found.Items[1:], Severity: v.r.URL.Query().Get("severity"), Fixable: v.r.URL.Query().Get("fixable") != ""}
	digest := url.PathEscape(p.Image.Digest)
	var report v1.Report
	switch err := v.get("/images/"+digest+"/report", nil, &report); {
	case err == nil:
		p.Report = &report
		listed := slices.DeleteFunc(slices.Clone(report.Vulnerabilities), func(f schemas.Finding) bool {
			return p.Severity != "" && severityName(f.NormalizedSeverity) != p.Severity || p.Fixable && f.FixedInVersion == ""
		})
		p.Listed, p.Packages = len(listed), byPackage(listed)
	default:
		pr, ok := errors.AsType[*problem](err)
		if !ok || pr.Status >= 500 {
			return err
		}
		p.Why = cmp.Or(p.Image.Reason, pr.Error())
	}
	var list v1.Page[event]
	if err := v.allowed("/events", url.Values{"subject": {p.Image.Digest}, "limit": {"20"}}, &list); err != nil {
		return err
	}
	p.History = list.Items
	v.show(http.StatusOK, "image", title(p.Image), p)
	return nil
}

// title is what an image is called on a page.
func title(i v1.Image) string {
	if len(i.Names) > 0 {
		return i.Names[0]
	}
	return i.Digest
}

type vulnerabilityPage struct {
	ID     string
	About  schemas.Finding
	Images []v1.AffectedImage
	Next   string
}

func (v *visit) findVulnerability() error {
	if id := strings.TrimSpace(v.r.URL.Query().Get("id")); id != "" {
		http.Redirect(v.w, v.r, "/ui/vulnerabilities/"+url.PathEscape(id), http.StatusSeeOther)
		return nil
	}
	v.show(http.StatusOK, "vulnerabilities", "Vulnerabilities", nil)
	return nil
}

func (v *visit) vulnerability() error {
	p := vulnerabilityPage{ID: v.r.PathValue("id")}
	q := url.Values{"limit": {"50"}}
	if c := v.r.URL.Query().Get("cursor"); c != "" {
		q.Set("cursor", c)
	}
	var list v1.Page[v1.AffectedImage]
	if err := v.get("/vulnerabilities/"+url.PathEscape(p.ID)+"/manifests", q, &list); err != nil {
		return err
	}
	p.Images, p.Next = list.Items, following(v.r, list.Next)
	for _, i := range p.Images {
		for _, f := range i.Findings {
			if p.About.ID == "" || schemas.SeverityRank(f.NormalizedSeverity) > schemas.SeverityRank(p.About.NormalizedSeverity) {
				p.About = f
			}
		}
	}
	v.show(http.StatusOK, "vulnerability", p.ID, p)
	return nil
}
