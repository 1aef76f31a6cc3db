package spikeauth

// Stats tells what a client's cache has done since the client was made, and what it holds. [Client.Exchange] and
// [Client.ExchangeSignature] do not touch the cache and are not counted.
//
// The counters add up: Hits and Misses are the calls that asked; Coalesced and Exchanges together are at most Misses.
type Stats struct {
	Hits          uint64 // calls that were answered from the cache
	Misses        uint64 // calls that were not
	Coalesced     uint64 // misses that waited for an exchange which another call had begun
	Exchanges     uint64 // exchanges that misses began
	Requests      uint64 // requests that these exchanges sent
	Retries       uint64 // requests among them that were not the first of their exchange
	Failures      uint64 // exchanges that ended without a token that could be handed out
	Invalidations uint64 // tokens that were dropped because Invalidate reported them
	Evictions     uint64 // tokens that were dropped to make room
	Entries       uint64 // tokens that are held now
	Bytes         uint64 // the memory that they take
}

// Stats reads the counters.
func (c *Client) Stats() (Stats, error) {
	const op = "stats"
	if err := c.enter(op); err != nil {
		return Stats{}, err
	}
	defer c.leave()
	stats, err := clientStats(c.handle.native, op)
	if err != nil {
		return Stats{}, err
	}
	shared := c.handle.flights.shared.Load()
	stats.Misses += shared
	stats.Coalesced += shared
	return stats, nil
}
