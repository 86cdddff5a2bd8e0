package admin

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/grayfed/grayfed/edge/api"
)

// caller is who makes a request.
type caller struct {
	write bool   // may change things
	actor string // for the audit
}

// admit says who calls, or why that is refused. With tokens, those decide.
// Without, whoever reaches the loopback listener may do everything; but a web
// page in a browser on this machine reaches it too.
func (s *Server) admit(w http.ResponseWriter, r *http.Request) (caller, error) {
	remote, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		remote = r.RemoteAddr
	}
	if s.tokens == nil {
		return caller{write: true, actor: remote}, s.checkBrowser(r)
	}
	text, isBearer := bearer(r.Header.Values("Authorization"))
	if !isBearer {
		w.Header().Set("WWW-Authenticate", `Bearer realm="grayfed"`)
		return caller{}, problem(http.StatusUnauthorized, api.ProblemToken, http.StatusText(http.StatusUnauthorized),
			"send Authorization: Bearer and a token of this edge's admin.tokens_file")
	}
	found, ok := s.tokens.find(text)
	if !ok {
		w.Header().Set("WWW-Authenticate", `Bearer realm="grayfed", error="invalid_token"`)
		return caller{}, problem(http.StatusUnauthorized, api.ProblemToken, http.StatusText(http.StatusUnauthorized),
			"this edge's admin.tokens_file has no such token")
	}
	return caller{write: found.write, actor: remote + " " + found.name()}, nil
}

// bearer returns the token of an Authorization field (RFC 6750, 2.1).
func bearer(fields []string) (token string, ok bool) {
	if len(fields) != 1 {
		return "", false
	}
	scheme, token, found := strings.Cut(fields[0], " ")
	if !found || !strings.EqualFold(scheme, "Bearer") {
		return "", false
	}
	token = strings.TrimLeft(token, " ")
	return token, token != ""
}

// checkBrowser refuses what a web page makes a browser send: by DNS rebinding,
// where the page's own host name leads here, the Host field is that name;
// across sites, Origin and Sec-Fetch-Site tell.
func (s *Server) checkBrowser(r *http.Request) error {
	refuse := func(detail string) error {
		return problem(http.StatusForbidden, api.ProblemOrigin, http.StatusText(http.StatusForbidden), detail)
	}
	if !s.ownHost(r.Host) {
		return refuse("address this edge as localhost or by a loopback address")
	}
	for _, origin := range r.Header.Values("Origin") {
		from, err := url.Parse(origin)
		if err != nil || from.Host != r.Host {
			return refuse("web pages of other origins may not call this edge")
		}
	}
	for _, site := range r.Header.Values("Sec-Fetch-Site") {
		if site != "same-origin" && site != "none" {
			return refuse("web pages of other sites may not call this edge")
		}
	}
	return nil
}

func (s *Server) ownHost(field string) bool {
	host, _, err := net.SplitHostPort(field)
	if err != nil {
		host = field
	}
	host = strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().IsLoopback()
	}
	return host == "localhost" || slices.ContainsFunc(s.opts.Hosts, func(own string) bool { return strings.EqualFold(own, host) })
}
