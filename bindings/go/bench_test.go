//go:build cgo

package spikeauth_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
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

// The form of the service's documentation.
func BenchmarkSignAsDocumented(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		h := hmac.New(sha256.New, []byte(key))
		h.Write([]byte(benchUser))
		_ = hex.EncodeToString(h.Sum(nil))
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
