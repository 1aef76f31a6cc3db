//go:build !cgo

package spikeauth

import (
	"os"
	"time"
)

// This file replaces native.go in a program without cgo. No client can be created there, so nothing below
// notCreatedError is ever called.

const (
	signatureSize     = 65
	signatureLen      = signatureSize - 1
	authorizationSize = 8200
	reportSize        = 16384
)

type (
	nativeClient = *struct{}
	nativeCall   = *struct{}
	nativeQueue  = *struct{}
)

func checkLibrary() error { return ErrNoCgo }

func libraryText(s Status) string { return s.String() }

func newClient(*settings) (nativeClient, error) { return nil, ErrNoCgo }

func sign([]byte, string, *[signatureSize]byte, string) error { return ErrNoCgo }

func verify([]byte, string, string, string) error { return ErrNoCgo }

func notCreatedError(string) error { return ErrNoCgo }

func clientSign(nativeClient, string, *[signatureSize]byte, string) error { return ErrNoCgo }

func clientSignMany(nativeClient, []byte, []int64, []byte, string) error { return ErrNoCgo }

func closeClient(nativeClient) {}

func freeClient(nativeClient) {}

func clientPeek(nativeClient, string, []byte) (int, bool) { return 0, false }

func (*order) wait(nativeClient, nativeCall, []byte) (int, error) { return 0, nil }

func (*order) start(nativeClient, nativeCall, nativeQueue, uint64) error { return nil }

func callResult(nativeCall, []byte, string) (int, error) { return 0, nil }

func newQueue(string) (nativeQueue, *os.File, error) { return nil, nil, nil }

func takeTags(nativeQueue, []uint64) int { return 0 }

func freeQueue(nativeQueue) {}

func clientSetKey(nativeClient, []byte, string) error { return ErrNoCgo }

func clientInvalidate(nativeClient, string, string, string) error { return ErrNoCgo }

func clientForget(nativeClient, string, string) error { return ErrNoCgo }

func clientCheckStore(nativeClient, nativeCall, string) error { return ErrNoCgo }

func clientDiagnose(nativeClient, string, nativeCall, string) ([]byte, error) { return nil, ErrNoCgo }

func clientForgetShared(nativeClient, string, nativeCall, string) error { return ErrNoCgo }

func clientStats(nativeClient, string) (Stats, error) { return Stats{}, ErrNoCgo }

func newCall(string, time.Duration) (nativeCall, error) { return nil, nil }

func cancelCall(nativeCall) {}

func freeCall(nativeCall) {}
