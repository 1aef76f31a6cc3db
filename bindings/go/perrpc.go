package spikeauth

import "context"

// PerRPCCredentials adds a user's Authorization header to gRPC calls. It is a credentials.PerRPCCredentials (of
// google.golang.org/grpc), which this package does not import: pass it to grpc.WithPerRPCCredentials or
// grpc.PerRPCCredentials. It is safe for concurrent use.
//
// If no token is available, the call fails with the text of the error, which [errors.Is] does not find in it, and with
// UNAUTHENTICATED, or INTERNAL where the credentials are those of one call. If the server refuses the token with
// UNAUTHENTICATED, call [Client.Invalidate] and retry once, as retryOnce does in integration/grpc_test.go.
type PerRPCCredentials struct {
	client *Client
	userID string
}

// PerRPCCredentials returns the credentials of a user.
func (c *Client) PerRPCCredentials(userID string) *PerRPCCredentials {
	return &PerRPCCredentials{c, userID}
}

// GetRequestMetadata returns the result of [Client.Authorization] as the metadata of a call. The URIs do not matter.
func (p *PerRPCCredentials) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	authorization, err := p.client.Authorization(ctx, p.userID)
	if err != nil {
		return nil, err
	}
	return map[string]string{"authorization": authorization}, nil
}

// RequireTransportSecurity returns true: gRPC then refuses to send the token in the clear.
func (p *PerRPCCredentials) RequireTransportSecurity() bool { return true }

// String returns the name of the type. It shows no user id.
func (p *PerRPCCredentials) String() string { return "spikeauth.PerRPCCredentials" }

// GoString implements [fmt.GoStringer] like String.
func (p *PerRPCCredentials) GoString() string { return p.String() }
