// Package web is the page: what Tocsin knows, for people, under /ui/.
//
// It shows and changes nothing by itself. Every page is made of answers of the
// HTTP API, which is asked in this process as whoever is logged in, so that
// rights and limits are the API's own. It guarantees that without a session only
// the login page, its style and its script are answered; that a form works only
// from a page of the session that it was shown to; and that no page runs a
// script but the one that is served here, or loads anything from elsewhere.
// Everything can be read and done with script switched off; script only keeps
// lists up to date.
package web
