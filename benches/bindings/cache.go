// Cached tokens of the Go binding: `cache IDS_FILE BASE_URL`. It is built together with ../peers/cache.go, and shares
// its goroutines and protocol.
//
// In the timed loop: Token(), which makes a string, with a cancellable context like that of a server's request. The
// CPU time is that of the process, because the garbage collector frees the strings on its own threads. Each step checks
// that no call made an exchange. "fill COUNT" caches the tokens of the first COUNT users of IDS_FILE.
package main

import (
	"context"
	"os"
	"time"

	spikeauth "github.com/spike-auth/spike-auth/bindings/go"
)

const processCPU = 2 // CLOCK_PROCESS_CPUTIME_ID

var client *spikeauth.Client

func fillClient(count int) (cpuNs, wallNs int64) {
	var err error
	if token, err = client.Token(context.Background(), ids[:idLen]); err != nil {
		die(err.Error())
	}
	get := askClient()
	cpuBefore, wallBefore := clockNs(threadCPU), time.Now()
	for i := range count {
		get(ids[i*idLen : (i+1)*idLen])
	}
	return clockNs(threadCPU) - cpuBefore, time.Since(wallBefore).Nanoseconds()
}

func askClient() func(user string) int {
	ctx, cancel := context.WithCancel(context.Background())
	_ = cancel // never called
	return func(user string) int {
		token, err := client.Token(ctx, user)
		if err != nil {
			die(err.Error())
		}
		return len(token)
	}
}

func exchanges() uint64 {
	stats, err := client.Stats()
	if err != nil {
		die(err.Error())
	}
	return stats.Exchanges
}

func askCached(which string, threads, count int) (cpuNs, wallNs int64) {
	before, cpuBefore := exchanges(), clockNs(processCPU)
	_, wallNs = askAll(which, threads, count)
	cpuNs = clockNs(processCPU) - cpuBefore // includes the warm-up, about 1 %
	if exchanges() != before {
		die("a token was not in the cache")
	}
	return cpuNs, wallNs
}

func init() {
	var err error
	client, err = spikeauth.New("9999", []byte("HMAC_KEY_FROM_ADMIN_CONSOLE"), spikeauth.WithBaseURL(os.Args[2]))
	if err != nil {
		die(err.Error())
	}
	fill, newAsk, run = fillClient, askClient, askCached
}
