//go:build !cgo

package spikeauth

import "time"

// What native.go has, in a program that cannot call the library. No client can be made here, so nothing below
// errNotMade is ever called.

const (
	signatureSize     = 65
	signatureLen      = signatureSize - 1
	authorizationSize = 8200
)

type (
	nativeClient = *struct{}
	nativeCall   = *struct{}
)

func checkLibrary() error { return ErrNoCgo }

func libraryText(Status) string { return "unknown" }

func newClient(*settings) (nativeClient, error) { return nil, ErrNoCgo }

func sign([]byte, string, *[signatureSize]byte, string) error { return ErrNoCgo }

func verify([]byte, string, string, string) error { return ErrNoCgo }

func errNotMade(string) error { return ErrNoCgo }

func clientSign(nativeClient, string, *[signatureSize]byte, string) error { return ErrNoCgo }

func clientSignMany(nativeClient, []byte, []int64, []byte, string) *Error { return nil }

func closeClient(nativeClient) {}

func freeClient(nativeClient) {}

func clientPeek(nativeClient, string, []byte) (int, Status) { return 0, StatusInternal }

func clientPeekError(nativeClient, string, []byte, string) (int, Status, *Error) {
	return 0, StatusInternal, nil
}

func clientToken(nativeClient, string, nativeCall, []byte, string) (int, *Error) { return 0, nil }

func clientExchange(nativeClient, string, nativeCall, []byte, string) (int, *Error) { return 0, nil }

func clientExchangeSignature(nativeClient, string, string, nativeCall, []byte, string) (int, *Error) {
	return 0, nil
}

func clientInvalidate(nativeClient, string, string, string) error { return ErrNoCgo }

func clientForget(nativeClient, string, string) error { return ErrNoCgo }

func clientStats(nativeClient, string) (Stats, error) { return Stats{}, ErrNoCgo }

func newCall(string) (nativeCall, *Error) { return nil, nil }

func limitCall(nativeCall, time.Duration) bool { return false }

func cancelCall(nativeCall) {}

func freeCall(nativeCall) {}
