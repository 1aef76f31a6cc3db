package spikeauth

import (
	"encoding/json"
	"log/slog"
	"reflect"
)

// Stats counts what a client's cache has done since the client was created, and what it holds. [Client.Exchange] and
// [Client.ExchangeSignature] bypass the cache and count only in Pending.
//
// Each call for a token is either a hit or a miss. Coalesced, Exchanges and StoreHits together are at most Misses.
type Stats struct {
	Hits          uint64 `json:"hits"`          // calls answered from the cache
	Misses        uint64 `json:"misses"`        // all other calls
	Coalesced     uint64 `json:"coalesced"`     // misses that waited for another call's exchange
	Exchanges     uint64 `json:"exchanges"`     // exchanges started by misses
	Requests      uint64 `json:"requests"`      // requests sent by these exchanges
	Retries       uint64 `json:"retries"`       // requests after the first of an exchange
	Failures      uint64 `json:"failures"`      // exchanges that ended without a usable token
	Invalidations uint64 `json:"invalidations"` // tokens dropped by Invalidate
	Evictions     uint64 `json:"evictions"`     // tokens dropped to make room
	Entries       uint64 `json:"entries"`       // tokens held now
	Bytes         uint64 `json:"bytes"`         // memory used by these tokens
	Pending       uint64 `json:"pending"`       // calls that wait as goroutines now; a few more may hold a thread
	StoreHits     uint64 `json:"store_hits"`    // misses that took a token from the store
	StoreMisses   uint64 `json:"store_misses"`  // exchanges made because the store held no token
	StoreWaits    uint64 `json:"store_waits"`   // misses that waited for another process' exchange
	StoreErrors   uint64 `json:"store_errors"`  // operations of the store that failed
	StoreSkipped  uint64 `json:"store_skipped"` // exchanges made without a look, because the store had failed three times in a row
	KeyChanges    uint64 `json:"key_changes"`   // how often the key was changed, by SetHMACKey or in its file
}

// Stats returns the current counters.
func (c *Client) Stats() (Stats, error) {
	const op = "stats"
	if _, err := c.acquire(op, oneCall); err != nil {
		return Stats{}, err
	}
	defer c.release(oneCall)
	return clientStats(c.handle.native, op)
}

// String returns the counters as JSON. Stats thereby implements [expvar.Var]; publish current ones with [expvar.Func].
func (s Stats) String() string {
	text, _ := json.Marshal(s) // numbers cannot fail
	return string(text)
}

// LogValue implements [slog.LogValuer] with a group of all counters.
func (s Stats) LogValue() slog.Value {
	value := reflect.ValueOf(s)
	attrs := make([]slog.Attr, value.NumField())
	for i := range attrs {
		attrs[i] = slog.Uint64(value.Type().Field(i).Tag.Get("json"), value.Field(i).Uint())
	}
	return slog.GroupValue(attrs...)
}
