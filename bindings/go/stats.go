package spikeauth

// Stats counts what a client's cache has done since the client was created, and what it holds. [Client.Exchange] and
// [Client.ExchangeSignature] bypass the cache and are not counted.
//
// Each call for a token is either a hit or a miss. Coalesced, Exchanges and StoreHits together are at most Misses.
type Stats struct {
	Hits          uint64 // calls answered from the cache
	Misses        uint64 // all other calls
	Coalesced     uint64 // misses that waited for another call's exchange
	Exchanges     uint64 // exchanges started by misses
	Requests      uint64 // requests sent by these exchanges
	Retries       uint64 // requests after the first of an exchange
	Failures      uint64 // exchanges that ended without a usable token
	Invalidations uint64 // tokens dropped by Invalidate
	Evictions     uint64 // tokens dropped to make room
	Entries       uint64 // tokens held now
	Bytes         uint64 // memory used by these tokens
	StoreHits     uint64 // misses that took a token from the store
	StoreMisses   uint64 // exchanges made because the store held no token
	StoreWaits    uint64 // misses that waited for another process' exchange
	StoreErrors   uint64 // operations of the store that failed
	StoreSkipped  uint64 // exchanges made without a look, because the store had failed three times in a row
}

// Stats returns the current counters.
func (c *Client) Stats() (Stats, error) {
	const op = "stats"
	if err := c.acquire(op); err != nil {
		return Stats{}, err
	}
	defer c.release()
	stats, err := clientStats(c.handle.native, op)
	if err != nil {
		return Stats{}, err
	}
	coalesced := c.handle.flights.coalesced.Load()
	stats.Misses += coalesced
	stats.Coalesced += coalesced
	return stats, nil
}
