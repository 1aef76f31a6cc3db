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
	"sync/atomic"
	"testing"
	"time"

	spikeauth "github.com/spike-auth/spike-auth/bindings/go"
)

// api is the API that is called with a token. It records requests and refuses as many as it is told.
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

func get(t *testing.T, client *http.Client, url string) (int, string) {
	t.Helper()
	resp, err := client.Get(url)
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
	s, a := newSandbox(t, "--fresh-tokens"), newAPI(t)
	a.refuse = 1
	req, err := http.NewRequest("POST", a.URL, strings.NewReader("sent twice"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Basic of the caller")
	req.Header.Set("X-Other", "kept")
	before, body := req.Header.Clone(), req.Body
	resp, err := s.client(t, "http").RoundTripper("alice", nil).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if !maps.EqualFunc(req.Header, before, slices.Equal) || req.Body != body {
		t.Errorf("%v", req.Header)
	}
	if slices.Contains(a.headers, "Basic of the caller") {
		t.Errorf("%q", a.headers)
	}
	bare := &http.Request{Method: "GET", URL: req.URL}
	if resp, err = s.client(t, "http").RoundTripper("alice", nil).RoundTrip(bare); err != nil || bare.Header != nil {
		t.Fatalf("%v, %v", err, bare.Header)
	}
	resp.Body.Close()
}

func TestA401IsRetried(t *testing.T) {
	s, a := newSandbox(t, "--fresh-tokens"), newAPI(t)
	spike := s.client(t, "http")
	client := &http.Client{Transport: spike.RoundTripper("alice", new(http.Transport))}
	defer client.CloseIdleConnections()
	a.refuse = 1
	resp, err := client.Post(a.URL, "text/plain", strings.NewReader("sent twice"))
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%v, %v", resp, err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	if !slices.Equal(a.bodies, []string{"sent twice", "sent twice"}) || a.headers[0] == a.headers[1] {
		t.Errorf("%q, %q", a.bodies, a.headers)
	}
	if len(a.connections) != 1 {
		t.Errorf("%d connections: the 401 was not read to its end", len(a.connections))
	}
	token, _ := spike.Token(t.Context(), "alice")
	if a.headers[1] != "Bearer "+token {
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

func TestAnEndlessBodyOfA401IsNotRead(t *testing.T) {
	s := newSandbox(t, "--fresh-tokens")
	var requests atomic.Int32
	a := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) == 1 {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, "the start")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			return
		}
		fmt.Fprint(w, "the body")
	}))
	defer a.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", a.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.client(t, "http").RoundTripper("alice", nil).RoundTrip(req)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%v, %v", resp, err)
	}
	resp.Body.Close()
}

func TestARetryHasNoBodyIfTheRequestHadNone(t *testing.T) {
	client := newSandbox(t, "--fresh-tokens").client(t, "http")
	for name, none := range map[string]io.ReadCloser{"nil": nil, "NoBody": http.NoBody} {
		var sent []io.ReadCloser
		base := roundTrip(func(r *http.Request) (*http.Response, error) {
			sent = append(sent, r.Body)
			return &http.Response{StatusCode: http.StatusUnauthorized, Body: http.NoBody}, nil
		})
		req, err := http.NewRequest("POST", "https://example.com", strings.NewReader("removed"))
		if err != nil {
			t.Fatal(err)
		}
		req.Body = none
		if _, err := client.RoundTripper("none-"+name, base).RoundTrip(req); err != nil {
			t.Error(err)
		}
		if !slices.Equal(sent, []io.ReadCloser{none, none}) {
			t.Errorf("%s: %v", name, sent)
		}
	}
}

func TestA401ThatCannotBeRetriedIsReturned(t *testing.T) {
	a := newAPI(t)
	a.refuse = 100
	t.Run("the body cannot be sent again", func(t *testing.T) {
		s := newSandbox(t, "--fresh-tokens")
		spike := s.client(t, "http")
		first, _ := spike.Token(t.Context(), "alice")
		client := &http.Client{Transport: spike.RoundTripper("alice", nil)}
		resp, err := client.Post(a.URL, "text/plain", io.MultiReader(strings.NewReader("once")))
		if err != nil || resp.StatusCode != 401 {
			t.Fatalf("%v, %v", resp, err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(body) != "the body" || err != nil || len(a.headers) != 1 {
			t.Errorf("%q, %v, %d requests", body, err, len(a.headers))
		}
		if second, _ := spike.Token(t.Context(), "alice"); second == first || second == "" {
			t.Error("the token was not invalidated")
		}
	})
	t.Run("no new token", func(t *testing.T) {
		before := len(a.headers)
		client := &http.Client{Transport: server.client(t, "http").RoundTripper("no-other", nil)}
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
	sent := make(chan string, 1)
	base := roundTrip(func(r *http.Request) (*http.Response, error) {
		sent <- r.Header.Get("Authorization")
		return nil, errors.New("sent")
	})
	req, _ := http.NewRequest("GET", "https://example.com", nil)
	req.Response = new(http.Response)
	_, _ = server.client(t, "http").RoundTripper("unknown", base).RoundTrip(req)
	if got := <-sent; got != "" {
		t.Error(got)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

type body struct {
	io.Reader
	closed bool
}

func (b *body) Close() error {
	b.closed = true
	return nil
}

func TestPlainHTTPOnlyToThisMachine(t *testing.T) {
	reached := ""
	base := roundTrip(func(r *http.Request) (*http.Response, error) {
		reached = r.URL.Host
		return nil, errors.New("sent")
	})
	transport := server.client(t, "http").RoundTripper("plain", base)
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
		sent := &body{Reader: strings.NewReader("sent")}
		req, err := http.NewRequest("POST", url, sent)
		if err != nil {
			t.Fatal(err)
		}
		reached = ""
		_, err = transport.RoundTrip(req)
		if got := reached != ""; got != want || got == errors.Is(err, spikeauth.StatusInvalidURL) || !got && !sent.closed {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestWithoutATokenNothingIsSent(t *testing.T) {
	a := newAPI(t)
	spike := server.client(t, "http")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	sent := &body{Reader: strings.NewReader("sent")}
	req, _ := http.NewRequestWithContext(ctx, "POST", a.URL, sent)
	if _, err := spike.RoundTripper("never", nil).RoundTrip(req); !errors.Is(err, context.Canceled) || !sent.closed {
		t.Errorf("done context: %v", err)
	}
	client := &http.Client{Transport: spike.RoundTripper("fault.status.403", nil)}
	if _, err := client.Get(a.URL); !errors.Is(err, spikeauth.StatusForbidden) {
		t.Errorf("forbidden user: %v", err)
	}
	if len(a.headers) != 0 {
		t.Errorf("%d requests", len(a.headers))
	}
}
