//go:build cgo

package spikeauth_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	spikeauth "github.com/spike-auth/spike-auth/bindings/go"
)

// api is the API that is called with a token. It records requests and replies with 401 to as many as refuse says.
type api struct {
	*httptest.Server
	mutex       sync.Mutex
	refuse      int
	headers     []string // Authorization
	bodies      []string
	connections map[string]bool
}

func newAPI(t *testing.T) *api {
	a := &api{connections: map[string]bool{}}
	a.Server = httptest.NewServer(http.HandlerFunc(a.serve))
	t.Cleanup(a.Close)
	return a
}

func (a *api) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	a.mutex.Lock()
	a.headers = append(a.headers, strings.Join(r.Header.Values("Authorization"), ", "))
	a.bodies = append(a.bodies, string(body))
	a.connections[r.RemoteAddr] = true
	refused := a.refuse > 0
	a.refuse--
	a.mutex.Unlock()
	if to := r.URL.Query().Get("to"); to != "" {
		http.Redirect(w, r, to, http.StatusTemporaryRedirect)
		return
	}
	if refused {
		w.WriteHeader(http.StatusUnauthorized)
	}
	fmt.Fprint(w, "the body")
}

// read returns the status and the body of a response, and closes it.
func read(t *testing.T, resp *http.Response, err error) (int, string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func get(t *testing.T, client *http.Client, url string) (int, string) {
	t.Helper()
	resp, err := client.Get(url)
	return read(t, resp, err)
}

// transport is a base that a test observes.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// body is a request's body that cannot be sent again.
type body struct {
	io.Reader
	closed bool
}

func (b *body) Close() error {
	b.closed = true
	return nil
}

func newRequest(t *testing.T, url string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", url, body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

func TestRequestsCarryTheToken(t *testing.T) {
	spike, a := server.client(t, "http"), newAPI(t)
	for _, base := range []http.RoundTripper{nil, http.DefaultTransport} {
		client := &http.Client{Transport: spike.RoundTripper("carried", base)}
		if status, body := get(t, client, a.URL); status != 200 || body != "the body" {
			t.Errorf("%d, %q", status, body)
		}
		client.CloseIdleConnections()
	}
	token, _ := spike.Token(t.Context(), "carried")
	if want := []string{"Bearer " + token, "Bearer " + token}; !slices.Equal(a.headers, want) {
		t.Errorf("%q", a.headers)
	}
}

func TestTheCallersRequestIsNotModified(t *testing.T) {
	client, a := newSandbox(t, "--fresh-tokens").client(t, "http"), newAPI(t)
	a.refuse = 1
	req := newRequest(t, a.URL, strings.NewReader("sent twice"))
	req.Header.Set("Authorization", "Basic of the caller")
	req.Header.Set("X-Other", "kept")
	before, body := req.Header.Clone(), req.Body
	resp, err := client.RoundTripper("alice", nil).RoundTrip(req)
	read(t, resp, err)
	if !maps.EqualFunc(req.Header, before, slices.Equal) || req.Body != body {
		t.Errorf("%v", req.Header)
	}
	if slices.Contains(a.headers, "Basic of the caller") {
		t.Errorf("%q", a.headers)
	}
	bare := &http.Request{Method: "GET", URL: req.URL}
	resp, err = client.RoundTripper("alice", nil).RoundTrip(bare)
	if read(t, resp, err); bare.Header != nil {
		t.Error(bare.Header)
	}
}

func TestA401IsRetried(t *testing.T) {
	s, a := newSandbox(t, "--fresh-tokens"), newAPI(t)
	spike := s.client(t, "http")
	client := &http.Client{Transport: spike.RoundTripper("alice", new(http.Transport))}
	defer client.CloseIdleConnections()
	a.refuse = 1
	resp, err := client.Post(a.URL, "text/plain", strings.NewReader("sent twice"))
	if status, _ := read(t, resp, err); status != 200 {
		t.Errorf("%d", status)
	}
	if !slices.Equal(a.bodies, []string{"sent twice", "sent twice"}) || a.headers[0] == a.headers[1] {
		t.Errorf("%q, %q", a.bodies, a.headers)
	}
	if len(a.connections) != 1 {
		t.Errorf("%d connections: the 401 was not read to its end", len(a.connections))
	}
	if token, _ := spike.Token(t.Context(), "alice"); a.headers[1] != "Bearer "+token {
		t.Error("the new token is not cached")
	}
}

func TestASecond401IsReturned(t *testing.T) {
	s, a := newSandbox(t, "--fresh-tokens"), newAPI(t)
	spike := s.client(t, "http")
	client := &http.Client{Transport: spike.RoundTripper("alice", nil)}
	a.refuse = 100
	if status, body := get(t, client, a.URL); status != 401 || body != "the body" || len(a.headers) != 2 {
		t.Errorf("%d, %q, %d requests", status, body, len(a.headers))
	}
	if _, err := spike.Token(t.Context(), "alice"); !errors.Is(err, spikeauth.StatusTokenRejected) {
		t.Errorf("the second token was not invalidated: %v", err)
	}
	if n := s.requests(t, "alice"); n != 2 {
		t.Errorf("%d exchanges", n)
	}
}

func TestARetryHasNoBodyIfTheRequestHadNone(t *testing.T) {
	client := newSandbox(t, "--fresh-tokens").client(t, "http")
	for name, none := range map[string]io.ReadCloser{"nil": nil, "NoBody": http.NoBody} {
		var sent []io.ReadCloser
		base := transport(func(r *http.Request) (*http.Response, error) {
			sent = append(sent, r.Body)
			return &http.Response{StatusCode: http.StatusUnauthorized, Body: http.NoBody}, nil
		})
		req := newRequest(t, "https://example.com", strings.NewReader("removed"))
		req.Body = none
		if _, err := client.RoundTripper("none-"+name, base).RoundTrip(req); err != nil {
			t.Error(err)
		}
		if !slices.Equal(sent, []io.ReadCloser{none, none}) {
			t.Errorf("%s: %v", name, sent)
		}
	}
}

func TestAnEndlessBodyOfA401IsNotRead(t *testing.T) {
	endless, writer := io.Pipe() // a read blocks
	defer writer.Close()
	replies := []*http.Response{
		{StatusCode: http.StatusUnauthorized, Body: endless, ContentLength: -1},
		{StatusCode: http.StatusOK, Body: http.NoBody},
	}
	base := transport(func(*http.Request) (*http.Response, error) {
		reply := replies[0]
		replies = replies[1:]
		return reply, nil
	})
	client := newSandbox(t, "--fresh-tokens").client(t, "http")
	resp, err := client.RoundTripper("alice", base).RoundTrip(newRequest(t, "https://example.com", nil))
	if status, _ := read(t, resp, err); status != 200 {
		t.Errorf("%d", status)
	}
}

func TestA401ThatCannotBeRetriedIsReturned(t *testing.T) {
	a := newAPI(t)
	a.refuse = 100
	t.Run("the body cannot be sent again", func(t *testing.T) {
		spike := newSandbox(t, "--fresh-tokens").client(t, "http")
		first, _ := spike.Token(t.Context(), "alice")
		client := &http.Client{Transport: spike.RoundTripper("alice", nil)}
		resp, err := client.Post(a.URL, "text/plain", &body{Reader: strings.NewReader("once")})
		if status, body := read(t, resp, err); status != 401 || body != "the body" || len(a.headers) != 1 {
			t.Errorf("%d, %q, %d requests", status, body, len(a.headers))
		}
		if second, _ := spike.Token(t.Context(), "alice"); second == first || second == "" {
			t.Error("the token was not invalidated")
		}
	})
	t.Run("no new token", func(t *testing.T) {
		before := len(a.headers)
		client := &http.Client{Transport: server.client(t, "http").RoundTripper("no-new-token", nil)}
		if status, body := get(t, client, a.URL); status != 401 || body != "the body" || len(a.headers) != before+1 {
			t.Errorf("%d, %q, %d requests", status, body, len(a.headers)-before)
		}
	})
}

func TestRedirectsToAnotherOriginCarryNoToken(t *testing.T) {
	here, elsewhere := newAPI(t), newAPI(t)
	spike := server.client(t, "http")
	client := &http.Client{Transport: spike.RoundTripper("redirected", nil)}
	token, err := spike.Token(t.Context(), "redirected")
	if err != nil {
		t.Fatal(err)
	}
	ours := "Bearer " + token
	for name, row := range map[string]struct {
		url             string
		here, elsewhere []string
	}{
		"same origin":       {here.URL + "/?to=/next", []string{ours, ours}, nil},
		"another port":      {here.URL + "/?to=" + elsewhere.URL, []string{ours}, []string{""}},
		"another name":      {here.URL + "/?to=" + strings.Replace(here.URL, "127.0.0.1", "localhost", 1), []string{ours, ""}, nil},
		"and back":          {here.URL + "/?to=" + elsewhere.URL + "/?to=" + here.URL, []string{ours, ""}, []string{""}},
		"started elsewhere": {elsewhere.URL + "/?to=" + here.URL, []string{""}, []string{ours}},
	} {
		here.headers, elsewhere.headers = nil, nil
		elsewhere.refuse = 1 // a 401 from there must not invalidate the token
		get(t, client, row.url)
		if !slices.Equal(here.headers, row.here) || !slices.Equal(elsewhere.headers, row.elsewhere) {
			t.Errorf("%s: %q and %q", name, here.headers, elsewhere.headers)
		}
	}
	if again, err := spike.Token(t.Context(), "redirected"); again != token {
		t.Errorf("the token was invalidated: %v", err)
	}
}

// The origin of a response without its request is unknown.
func TestARedirectFromAnUnknownOriginCarriesNoToken(t *testing.T) {
	base := transport(func(r *http.Request) (*http.Response, error) {
		if got := r.Header.Get("Authorization"); got != "" {
			t.Error(got)
		}
		return nil, errors.New("sent")
	})
	req := newRequest(t, "https://example.com", nil)
	req.Response = new(http.Response)
	if _, err := server.client(t, "http").RoundTripper("unknown", base).RoundTrip(req); err == nil || err.Error() != "sent" {
		t.Error(err)
	}
}

func TestPlainHTTPOnlyToThisMachine(t *testing.T) {
	reached := false
	base := transport(func(*http.Request) (*http.Response, error) {
		reached = true
		return nil, errors.New("sent")
	})
	plain := server.client(t, "http").RoundTripper("plain", base)
	for url, want := range map[string]bool{
		"http://localhost:1/":   true,
		"http://127.8.8.8/":     true,
		"http://[::1]:1/":       true,
		"https://example.com/":  true,
		"http://example.com/":   false,
		"http://localhost.com/": false,
		"http://10.0.0.1/":      false,
		"ftp://example.com/":    false,
	} {
		reached = false
		sent := &body{Reader: strings.NewReader("sent")}
		_, err := plain.RoundTrip(newRequest(t, url, sent))
		if reached != want || reached == errors.Is(err, spikeauth.StatusInvalidURL) || !reached && !sent.closed {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestWithoutATokenNothingIsSent(t *testing.T) {
	base := transport(func(*http.Request) (*http.Response, error) {
		t.Error("sent")
		return nil, errors.New("sent")
	})
	spike := server.client(t, "http")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	sent := &body{Reader: strings.NewReader("sent")}
	req := newRequest(t, "https://example.com", sent).WithContext(ctx)
	if _, err := spike.RoundTripper("never", base).RoundTrip(req); !errors.Is(err, context.Canceled) || !sent.closed {
		t.Errorf("done context: %v", err)
	}
	client := &http.Client{Transport: spike.RoundTripper("fault.status.403", base)}
	if _, err := client.Get("https://example.com"); !errors.Is(err, spikeauth.StatusForbidden) {
		t.Errorf("forbidden user: %v", err)
	}
}
