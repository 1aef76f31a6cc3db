package spikeauth

import "context"

// A TokenSource returns a user's access token as a T. With T = *oauth2.Token it is an oauth2.TokenSource (of
// golang.org/x/oauth2), which this package does not import. It is safe for concurrent use.
type TokenSource[T any] struct {
	client  *Client
	userID  string
	convert func(accessToken string) T
}

// NewTokenSource returns a [TokenSource] of a user's tokens:
//
//	source := spikeauth.NewTokenSource(client, userID, func(accessToken string) *oauth2.Token {
//		return &oauth2.Token{AccessToken: accessToken}
//	})
//	httpClient := &http.Client{Transport: &oauth2.Transport{Source: source}}
//
// The token has no Expiry, because the client renews it: do not wrap the source in oauth2.ReuseTokenSource or
// oauth2.NewClient, which keep such a token without asking again.
//
// A nil convert panics.
//
// oauth2 has no hook for a 401. After one, call [Client.Invalidate] with the rejected token and retry once. For net/http,
// [Client.RoundTripper] does that.
func NewTokenSource[T any](client *Client, userID string, convert func(accessToken string) T) *TokenSource[T] {
	if convert == nil {
		panic("spikeauth: nil convert")
	}
	return &TokenSource[T]{client, userID, convert}
}

// Token returns a converted [Client.Token]. Its deadline is the client's timeout.
func (s *TokenSource[T]) Token() (T, error) {
	token, err := s.client.Token(context.Background(), s.userID)
	if err != nil {
		var none T
		return none, err
	}
	return s.convert(token), nil
}

// String returns the name of the type. It shows no user id.
func (s *TokenSource[T]) String() string { return "spikeauth.TokenSource" }

// GoString implements [fmt.GoStringer] like String.
func (s *TokenSource[T]) GoString() string { return s.String() }
