package integration

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	spikeauth "github.com/spike-auth/spike-auth/bindings/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// api is a gRPC server that requires a token. It refuses those that refuse selects.
type api struct {
	address string
	ca      *x509.CertPool
	refuse  func(authorization string) bool

	mutex sync.Mutex
	seen  []string
}

// serve starts a server with the certificate of an httptest server, for 127.0.0.1 and example.com.
func serve(refuse func(authorization string) bool) (a *api, stop func()) {
	certified := httptest.NewTLSServer(nil)
	defer certified.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	a = &api{address: listener.Addr().String(), ca: x509.NewCertPool(), refuse: refuse}
	a.ca.AddCert(certified.Certificate())
	server := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&certified.TLS.Certificates[0])),
		grpc.UnaryInterceptor(a.authorize))
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	go func() { _ = server.Serve(listener) }()
	return a, server.Stop
}

func (a *api) authorize(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	authorization := strings.Join(metadata.ValueFromIncomingContext(ctx, "authorization"), ", ")
	a.mutex.Lock()
	a.seen = append(a.seen, authorization)
	a.mutex.Unlock()
	if a.refuse(authorization) {
		return nil, status.Error(codes.Unauthenticated, "expired")
	}
	return handler(ctx, req)
}

// calls returns the Authorization of every call so far.
func (a *api) calls() []string {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	return slices.Clone(a.seen)
}

// retryOnce retries a call that the server refused with UNAUTHENTICATED once, with a new token.
func retryOnce(client *spikeauth.Client, userID string) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker,
		opts ...grpc.CallOption) error {
		token, err := client.Token(ctx, userID) // the token that the credentials send
		if err != nil {
			return err
		}
		err = invoke(ctx, method, req, reply, conn, opts...)
		if status.Code(err) != codes.Unauthenticated || client.Invalidate(userID, token) != nil {
			return err
		}
		return invoke(ctx, method, req, reply, conn, opts...)
	}
}

func ExampleClient_PerRPCCredentials() {
	first := true
	server, stop := serve(func(string) bool { defer func() { first = false }(); return first }) // refuses the first call
	defer stop()

	client, err := spikeauth.NewFromEnv()
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	conn, err := grpc.NewClient(server.address,
		grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(server.ca, "")),
		grpc.WithPerRPCCredentials(client.PerRPCCredentials("my_application_user_123")),
		grpc.WithUnaryInterceptor(retryOnce(client, "my_application_user_123")),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	reply, err := grpc_health_v1.NewHealthClient(conn).Check(context.Background(), &grpc_health_v1.HealthCheckRequest{})
	fmt.Println(reply.GetStatus(), err)
	calls := server.calls()
	for _, authorization := range calls {
		fmt.Printf("%.10s...\n", authorization)
	}
	fmt.Println("a new token:", calls[0] != calls[1])
	// Output:
	// SERVING <nil>
	// Bearer eyJ...
	// Bearer eyJ...
	// a new token: true
}

func TestPerRPCCredentials(t *testing.T) {
	server, stop := serve(func(string) bool { return false })
	defer stop()
	client, err := spikeauth.NewFromEnv()
	if err != nil {
		t.Fatal(err)
	}
	var alice credentials.PerRPCCredentials = client.PerRPCCredentials("alice")
	secure := credentials.NewClientTLSFromCert(server.ca, "")
	if _, err := grpc.NewClient(server.address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithPerRPCCredentials(alice)); err == nil || !strings.Contains(err.Error(), "transport level security") {
		t.Errorf("credentials without TLS: %v", err)
	}
	conn, err := grpc.NewClient(server.address, grpc.WithTransportCredentials(secure))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	withAlice, err := grpc.NewClient(server.address, grpc.WithTransportCredentials(secure), grpc.WithPerRPCCredentials(alice))
	if err != nil {
		t.Fatal(err)
	}
	defer withAlice.Close()
	check := func(conn *grpc.ClientConn, options ...grpc.CallOption) error {
		_, err := grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{}, options...)
		return err
	}
	of := func(user string) grpc.CallOption { return grpc.PerRPCCredentials(client.PerRPCCredentials(user)) }
	for user, call := range map[string]func() error{
		"alice": func() error { return check(withAlice) },
		"bob":   func() error { return check(conn, of("bob")) },
	} {
		if err := call(); err != nil {
			t.Fatal(err)
		}
		want, err := client.Authorization(t.Context(), user)
		calls := server.calls()
		if got := calls[len(calls)-1]; err != nil || got != want {
			t.Errorf("%s: %q, not %q, %v", user, got, want, err)
		}
	}
	sent := len(server.calls())
	if err := check(conn, of("not valid")); status.Code(err) != codes.Internal ||
		errors.Is(err, spikeauth.StatusInvalidUserID) || // else the documentation is outdated
		!strings.Contains(err.Error(), "spikeauth: authorization: ") || strings.Contains(err.Error(), "not valid") {
		t.Error(err)
	}
	client.Close()
	if err := check(withAlice); status.Code(err) != codes.Unauthenticated || len(server.calls()) != sent {
		t.Errorf("%v, %d calls", err, len(server.calls()))
	}
	if _, err := alice.GetRequestMetadata(t.Context()); !errors.Is(err, spikeauth.ErrClosed) {
		t.Error(err)
	}
}
