// For a look at this package alone. What it is measured against is in benches.

//go:build cgo

package spikeauth_test

import (
	"context"
	"testing"
)

const benchUser = "my_application_user_123"

func BenchmarkSignUser(b *testing.B) {
	client := server.client(b, "http")
	b.ReportAllocs()
	for b.Loop() {
		_, _ = client.SignUser(benchUser)
	}
}

func BenchmarkAppendSignature(b *testing.B) {
	client := server.client(b, "http")
	out := make([]byte, 0, 64)
	b.ReportAllocs()
	for b.Loop() {
		out, _ = client.AppendSignature(out[:0], benchUser)
	}
}

func BenchmarkTokenHit(b *testing.B) {
	client := server.client(b, "http")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if _, err := client.Token(ctx, benchUser); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		_, _ = client.Token(ctx, benchUser)
	}
}

func BenchmarkExchange(b *testing.B) {
	client := server.client(b, "http")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := client.Exchange(context.Background(), benchUser); err != nil {
			b.Fatal(err)
		}
	}
}
