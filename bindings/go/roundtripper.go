package spikeauth

import (
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// RoundTripper returns an [http.RoundTripper] that adds a user's Authorization header and sends requests with base, or
// with [http.DefaultTransport] if base is nil. After a 401 it invalidates the token and retries once with a new one. It
// returns the 401 if no new token is available or the body cannot be sent again ([http.Request.GetBody]).
//
// A redirected request receives the token only if scheme, host and port stayed the same at every step. A request over
// http to another machine fails, so that the token is never sent in the clear.
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

// drainMax is the longest body of a 401 that is read so that its connection can be reused.
const drainMax = 64 << 10

// discard closes a response. It does not read a body of unknown length, which may never end.
func discard(resp *http.Response) {
	if 0 <= resp.ContentLength && resp.ContentLength <= drainMax {
		_, _ = io.CopyN(io.Discard, resp.Body, drainMax)
	}
	resp.Body.Close()
}

func (t *roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	if crossedOrigin(req) {
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
	retry, token := t.retryRequest(req, token)
	if retry == nil {
		return resp, nil
	}
	discard(resp)
	resp, err = t.base.RoundTrip(retry)
	if err == nil && resp.StatusCode == http.StatusUnauthorized {
		_ = t.client.Invalidate(t.userID, token) // rejected twice: the library then requests no third one for a while
	}
	return resp, err
}

// retryRequest invalidates the rejected token and returns the request with a new one, or nil if it cannot be retried.
func (t *roundTripper) retryRequest(req *http.Request, rejected string) (*http.Request, string) {
	if t.client.Invalidate(t.userID, rejected) != nil || !canReplay(req) {
		return nil, ""
	}
	token, err := t.client.Token(req.Context(), t.userID)
	if err != nil {
		return nil, ""
	}
	retry := withToken(req, token)
	if hasBody(req) {
		if retry.Body, err = req.GetBody(); err != nil {
			return nil, ""
		}
	}
	return retry, token
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

// CloseIdleConnections implements [http.Client.CloseIdleConnections].
func (t *roundTripper) CloseIdleConnections() {
	if base, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

// String returns the name of the type.
func (t *roundTripper) String() string { return "spikeauth.RoundTripper" }

// GoString implements [fmt.GoStringer] like String.
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

// crossedOrigin reports whether a redirect on the way to req led to another origin. The request that follows a redirect
// holds its response, which holds the request before.
func crossedOrigin(req *http.Request) bool {
	for previous := req; previous.Response != nil; {
		previous = previous.Response.Request
		if previous == nil || previous.URL == nil || origin(previous.URL) != origin(req.URL) {
			return true
		}
	}
	return false
}

// origin returns scheme, host and port.
func origin(u *url.URL) string {
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
