package web

import (
	"crypto/subtle"
	"errors"
	"net/http"
	"net/url"
	"path"
	"strings"

	"tocsin.dev/tocsin/internal/access"
)

const (
	cookieName = "tocsin_session"
	// formKeyField is in every form, so that none works that another site made.
	formKeyField = "key"
)

// A visit is one request of somebody who is logged in.
type visit struct {
	*site
	w       http.ResponseWriter
	r       *http.Request
	who     access.Principal
	formKey string
}

// visited finds out who asks and what the answer to an error is.
func (s *site) visited(h func(*visit) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c, err := r.Cookie(cookieName)
		if err != nil {
			s.strange(w, r)
			return
		}
		session, err := s.Sessions.Resume(r.Context(), s.Client(r), c.Value)
		switch {
		case errors.Is(err, access.ErrUnknown):
			s.strange(w, r)
			return
		case err != nil:
			s.Log.ErrorContext(r.Context(), "session look-up failed", "error", err)
			s.fail(w, r, http.StatusServiceUnavailable, "Your session could not be looked up; try again.")
			return
		}
		v := &visit{site: s, w: w, r: r, who: session.Principal, formKey: session.FormKey}
		if session.Renewed != "" {
			s.setCookie(w, r, session.Renewed)
		}
		if r.Method == http.MethodPost {
			r.Body = http.MaxBytesReader(w, r.Body, maxForm)
			if err := r.ParseForm(); err != nil {
				s.fail(w, r, http.StatusBadRequest, "The form could not be read.")
				return
			}
			if subtle.ConstantTimeCompare([]byte(r.PostForm.Get(formKeyField)), []byte(v.formKey)) != 1 {
				s.fail(w, r, http.StatusForbidden, "This form is not from a page of your present session: load the page again.")
				return
			}
		}
		if err := h(v); err != nil {
			v.refuse(err)
		}
	}
}

func (s *site) setCookie(w http.ResponseWriter, r *http.Request, secret string) {
	c := &http.Cookie{
		Name: cookieName, Value: secret, Path: "/ui/", HttpOnly: true, SameSite: http.SameSiteStrictMode,
		Secure: r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https", MaxAge: int(access.SessionLife.Seconds()),
	}
	if secret == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

// strange answers somebody who is not logged in.
func (s *site) strange(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		s.fail(w, r, http.StatusUnauthorized, "You are not logged in any more.")
		return
	}
	if r.Header.Get("Sec-Fetch-Site") == "cross-site" && r.URL.Query().Get("again") == "" {
		// Whoever follows a link from a message is logged in perhaps, but the
		// browser keeps the cookie back: ask once more, from here.
		q := r.URL.Query()
		q.Set("again", "1")
		s.render(w, r, http.StatusOK, "again", view{Title: "Tocsin", Data: (&url.URL{Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: q.Encode()}).String()})
		return
	}
	to := "/ui/login"
	if r.URL.Path != "/ui/" && !strings.HasPrefix(r.URL.Path, "/ui/live") {
		to += "?to=" + url.QueryEscape(r.URL.RequestURI())
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

func (s *site) loginPage(w http.ResponseWriter, r *http.Request) {
	s.render(w, r, http.StatusOK, "login", view{Title: "Log in", Data: loginForm{To: r.URL.Query().Get("to")}})
}

type loginForm struct {
	To, Problem string
}

func (s *site) login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	form := loginForm{To: r.PostFormValue("to")}
	p, err := s.Gate.Authenticate(r.Context(), s.Client(r), strings.TrimSpace(r.PostFormValue("token")))
	var secret string
	if err == nil {
		secret, err = s.Sessions.Begin(r.Context(), p.Token)
	}
	status := http.StatusUnauthorized
	switch {
	case err == nil:
		s.setCookie(w, r, secret)
		http.Redirect(w, r, ownPage(form.To), http.StatusSeeOther)
		return
	case errors.Is(err, access.ErrUnknown):
		form.Problem = "This token is unknown, revoked or expired."
	case errors.Is(err, access.ErrThrottled):
		form.Problem, status = "Too many wrong tokens came from your address; wait a second.", http.StatusTooManyRequests
	default:
		s.Log.ErrorContext(r.Context(), "login failed", "error", err)
		form.Problem, status = "The token could not be looked up; try again.", http.StatusServiceUnavailable
	}
	s.render(w, r, status, "login", view{Title: "Log in", Data: form})
}

// ownPage is the page to go to after the login: one of this site, whatever the
// form says.
func ownPage(to string) string {
	u, err := url.Parse(to)
	if err != nil || !strings.HasPrefix(path.Clean(u.Path)+"/", "/ui/") || strings.Contains(to, "\\") {
		return "/ui/"
	}
	return (&url.URL{Path: u.Path, RawPath: u.RawPath, RawQuery: u.RawQuery}).String()
}

func (v *visit) logout() error {
	end, arg := v.Sessions.End, v.formKey
	if v.r.PostForm.Get("everywhere") != "" {
		end, arg = v.Sessions.EndAll, v.who.Token
	}
	if err := end(v.r.Context(), arg); err != nil {
		return err
	}
	v.setCookie(v.w, v.r, "")
	http.Redirect(v.w, v.r, "/ui/login", http.StatusSeeOther)
	return nil
}
