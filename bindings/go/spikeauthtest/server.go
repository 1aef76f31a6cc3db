// Package spikeauthtest has a stand-in for the service, for tests of programs that use spikeauth.
//
//	server := spikeauthtest.NewServer(t)
//	server.Respond(spikeauthtest.Response{Status: 503, Times: 2})
//	token, err := server.Client().Token(ctx, "alice")
//	// err is nil, token is server.Token("alice"), and server.Requests() is 3
//
// It follows public facts about the service: what it accepts or refuses proves nothing about Spike. The page
// docs/testing.md of the repository says what it promises.
package spikeauthtest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"
	"time"

	spikeauth "github.com/spike-auth/spike-auth/bindings/go"
)

const endpoint = "/v3/auth/hmac"

// conflicting are variables that must not be set beside those of [Server.Env]: a second key, and stores that would be
// asked first.
var conflicting = []string{"SPIKE_HMAC_KEY_FILE", "SPIKE_STORE_URL", "SPIKE_STORE_URL_FILE"}

// A Server is a service on a port of 127.0.0.1 that the system chooses. It checks requests as the service does, signature
// included, and answers with a token of the user, the same each time. It is safe for concurrent use.
type Server struct {
	t       testing.TB
	http    *httptest.Server
	closing chan struct{}

	mutex    sync.Mutex
	issuer   mint
	key      string
	limited  map[string][]Response
	lasting  map[string]Response
	requests int
	users    map[string]int
	tokens   map[string]string
}

// An Option changes what a [Server] does by default.
type Option func(*Server)

// WithApplication sets the application id and its key. The default is 9999 and HMAC_KEY_FROM_ADMIN_CONSOLE.
func WithApplication(id, hmacKey string) Option {
	return func(s *Server) { s.issuer.application, s.key = id, hmacKey }
}

// WithFreshTokens makes another token for each request.
func WithFreshTokens() Option {
	return func(s *Server) { s.issuer.fresh = true }
}

// WithTokenLifetime makes tokens that expire. It may be negative: such a token has expired.
func WithTokenLifetime(lifetime time.Duration) Option {
	return func(s *Server) { s.issuer.lifetime = &lifetime }
}

// NewServer starts a server. It is closed when the test ends.
func NewServer(t testing.TB, opts ...Option) *Server {
	t.Helper()
	s := &Server{t: t, closing: make(chan struct{}), key: "HMAC_KEY_FROM_ADMIN_CONSOLE"}
	s.issuer.application = "9999"
	for _, set := range opts {
		set(s)
	}
	s.Reset()
	s.http = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(func() {
		close(s.closing) // ends delays
		s.http.CloseClientConnections()
		s.http.Close() // waits for what is left
	})
	return s
}

// BaseURL returns the base URL, such as http://127.0.0.1:4567/v3.
func (s *Server) BaseURL() string { return s.http.URL + "/v3" }

// ApplicationID returns the application id.
func (s *Server) ApplicationID() string { return s.issuer.application }

// HMACKey returns the key.
func (s *Server) HMACKey() string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.key
}

// SetHMACKey changes the key. From then on, signatures by another one get a 401.
func (s *Server) SetHMACKey(key string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.key = key
}

// Env returns the variables that [spikeauth.NewFromEnv] reads.
func (s *Server) Env() map[string]string {
	return map[string]string{
		"SPIKE_APPLICATION_ID": s.ApplicationID(),
		"SPIKE_HMAC_KEY":       s.HMACKey(),
		"SPIKE_API_BASE_URL":   s.BaseURL(),
	}
}

// Setenv sets these variables until the test ends. Like [testing.T.Setenv], it cannot be used in parallel tests.
func (s *Server) Setenv() {
	s.t.Helper()
	for _, name := range conflicting {
		s.t.Setenv(name, "") // restores the variable when the test ends
		os.Unsetenv(name)
	}
	for name, value := range s.Env() {
		s.t.Setenv(name, value)
	}
}

// Client returns a new client of the server. It is closed when the test ends.
func (s *Server) Client(opts ...spikeauth.Option) *spikeauth.Client {
	s.t.Helper()
	opts = append([]spikeauth.Option{spikeauth.WithBaseURL(s.BaseURL())}, opts...)
	client, err := spikeauth.New(s.ApplicationID(), []byte(s.HMACKey()), opts...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { client.Close() })
	return client
}

// A Response is the answer to good requests. Its zero value is the usual one.
type Response struct {
	User  string // whose requests; "" is everyone's
	Times int    // for how many requests; 0 is until it is replaced

	Status     int           // from 200 to 599; 0 is 200
	Body       []byte        // nil is a token, or with another status than 200 a problem document
	RetryAfter time.Duration // the header as seconds, rounded up; 0 is none
	RetryAt    time.Time     // the header as a date; the zero time is none
	Delay      time.Duration // what passes before the answer
	Drop       bool          // the connection is closed without an answer
}

// Respond scripts the answer to good requests. Responses with Times go one after the other, and before the one without. A
// user's own go before everyone's. So Respond(Response{}) ends a lasting failure.
func (s *Server) Respond(r Response) {
	s.t.Helper()
	if r.Status == 0 {
		r.Status = http.StatusOK
	}
	if r.Status < 200 || r.Status > 599 || r.Times < 0 || r.Delay < 0 || r.RetryAfter < 0 {
		s.t.Fatalf("spikeauthtest: a status that is not from 200 to 599, or a negative number: %d, %d, %v, %v", r.Status,
			r.Times, r.Delay, r.RetryAfter)
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if r.Times == 0 {
		s.lasting[r.User] = r
	} else {
		s.limited[r.User] = append(s.limited[r.User], r)
	}
}

// Reset forgets the script, the counts and the tokens.
func (s *Server) Reset() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.limited, s.lasting = map[string][]Response{}, map[string]Response{}
	s.requests, s.users, s.tokens = 0, map[string]int{}, map[string]string{}
}

// Requests returns the number of requests, good or bad.
func (s *Server) Requests() int {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.requests
}

// RequestsFor returns the number of well-formed requests for a user, those with a wrong signature included.
func (s *Server) RequestsFor(userID string) int {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.users[userID]
}

// Token returns the last token that was made for a user, or "".
func (s *Server) Token(userID string) string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.tokens[userID]
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, bodyMax+1))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	answer := s.answer(r, body)
	if answer.Delay > 0 {
		select {
		case <-time.After(answer.Delay):
		case <-r.Context().Done():
		case <-s.closing:
			answer.Drop = true
		}
	}
	if answer.Drop {
		panic(http.ErrAbortHandler) // closes the connection and logs nothing
	}
	answer.write(w)
}

func (s *Server) answer(r *http.Request, body []byte) Response {
	if r.URL.Path != endpoint {
		return problem(http.StatusNotFound, "no such path")
	}
	asked, refusal := parse(r, body, s.issuer.application)
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.requests++
	if refusal != nil {
		return *refusal
	}
	user := asked.user
	s.users[user]++
	if asked.application != s.issuer.application || !asked.isSignedBy(s.key) {
		return problem(http.StatusUnauthorized, "invalid signature")
	}
	answer := s.scripted(user)
	if answer.Body != nil || answer.Drop {
		return answer
	}
	if answer.Status != http.StatusOK {
		answer.Body = problem(answer.Status, "the test asked for it").Body
		return answer
	}
	s.tokens[user] = s.issuer.token(user)
	answer.Body = compact(map[string]string{"access_token": s.tokens[user]})
	return answer
}

func (s *Server) scripted(user string) Response {
	for _, scope := range []string{user, ""} {
		if limited := s.limited[scope]; len(limited) > 0 {
			answer := limited[0]
			if limited[0].Times--; limited[0].Times == 0 {
				s.limited[scope] = limited[1:]
			}
			return answer
		}
		if answer, found := s.lasting[scope]; found {
			return answer
		}
	}
	return Response{Status: http.StatusOK}
}
