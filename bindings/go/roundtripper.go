package spikeauth

import (
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// RoundTripper returns an [http.RoundTripper] that adds a user's Authorization header to requests, and sends them with
// base, or with [http.DefaultTransport] if base is nil. After a 401 it reports the token, gets a new one and sends the
// request once more, if its body can be sent again ([http.Request.GetBody]). If it cannot, or there is no new token, the
// 401 is what is returned.
//
// The token goes where the program sends it, and not where a server would have it: to a request that follows a redirect
// it is added only if scheme, host and port are still those of the first request, all along the way. It is never sent
// over http to another machine; such a request fails.
func (c *Client) RoundTripper(userID string, base http.RoundTripper) http.RoundTripper {
	if base == nil {
		base = http.DefaultTransport
	}
	return &roundTripper{client: c, userID: userID, base: base}
}

type roundTripper struct {
	client *Client
	userID string
	base   http.RoundTripper
}

// drainMax is how much of the body of a 401 is read, so that its connection can be used again.
const drainMax = 64 << 10

// dispose is done with a response. A body of unknown length is not waited for: it may have no end.
func dispose(resp *http.Response) {
	if 0 <= resp.ContentLength && resp.ContentLength <= drainMax {
		_, _ = io.CopyN(io.Discard, resp.Body, drainMax)
	}
	resp.Body.Close()
}

func (t *roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	if hasLeft(req) {
		return t.base.RoundTrip(req)
	}
	token, err := t.token(req)
	if err != nil {
		closeBody(req)
		return nil, err
	}
	resp, err := t.base.RoundTrip(withToken(req, token))
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	again, token := t.another(req, token)
	if again == nil {
		return resp, nil
	}
	dispose(resp)
	resp, err = t.base.RoundTrip(again)
	if err == nil && resp.StatusCode == http.StatusUnauthorized {
		_ = t.client.Invalidate(t.userID, token) // so that no third one is asked for
	}
	return resp, err
}

// another reports a token that was refused, and returns the request with a new one, or nil if it cannot be sent again.
func (t *roundTripper) another(req *http.Request, rejected string) (*http.Request, string) {
	if t.client.Invalidate(t.userID, rejected) != nil || !canReplay(req) {
		return nil, ""
	}
	token, err := t.client.Token(req.Context(), t.userID)
	if err != nil {
		return nil, ""
	}
	again := withToken(req, token)
	if hasBody(req) {
		if again.Body, err = req.GetBody(); err != nil {
			return nil, ""
		}
	}
	return again, token
}

func (t *roundTripper) token(req *http.Request) (string, error) {
	if req.URL == nil || req.URL.Scheme != "https" && !isLoopback(req.URL) {
		return "", &Error{
			Op:      "round trip",
			Status:  StatusInvalidURL,
			Message: "a token is not sent over http to another machine. Use https.",
		}
	}
	return t.client.Token(req.Context(), t.userID)
}

// CloseIdleConnections is for [http.Client.CloseIdleConnections].
func (t *roundTripper) CloseIdleConnections() {
	if base, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

// String returns the name of the type: there is nothing else to show.
func (t *roundTripper) String() string { return "spikeauth.RoundTripper" }

// GoString is for %#v.
func (t *roundTripper) GoString() string { return t.String() }

func withToken(req *http.Request, token string) *http.Request {
	clone := req.Clone(req.Context())
	if clone.Header == nil {
		clone.Header = make(http.Header)
	}
	clone.Header.Set("Authorization", bearer+token)
	return clone
}

func canReplay(req *http.Request) bool {
	return !hasBody(req) || req.GetBody != nil
}

func hasBody(req *http.Request) bool {
	return req.Body != nil && req.Body != http.NoBody
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}

// hasLeft tells whether a redirect on the way to this request led to another place than that of the request. A request
// that follows a redirect has the response that made it, which has the request before.
func hasLeft(req *http.Request) bool {
	for at := req; at.Response != nil; {
		at = at.Response.Request
		if at == nil || at.URL == nil || place(at.URL) != place(req.URL) {
			return true
		}
	}
	return false
}

// place is scheme, host and port.
func place(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

func isLoopback(u *url.URL) bool {
	host := u.Hostname()
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}
