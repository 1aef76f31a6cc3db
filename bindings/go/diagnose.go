package spikeauth

import (
	"context"
	"encoding/json"
)

// Diagnosis is the report of [Client.Diagnose]. It holds no secret, and not the user id.
type Diagnosis struct {
	// Version is that of the library.
	Version string `json:"version"`
	// OK says that no check has failed.
	OK bool `json:"ok"`
	// Cure says what to do first; empty if OK.
	Cure string `json:"cure"`
	// Checks are the things that were looked at, in order.
	Checks []Check `json:"checks"`
	// JSON is the whole report on one line. The comment of spike_auth_client_diagnose in spike_auth.h documents it.
	JSON json.RawMessage `json:"-"`
}

// Check is one thing that was looked at: settings, key, proxy, resolve, connect, tls, exchange, clock, or store.
type Check struct {
	Name string `json:"name"`
	// Status is "ok", "warning", "failed" or "skipped".
	Status  string  `json:"status"`
	Millis  float64 `json:"ms"`
	Message string  `json:"message"`
	// Cure says what to do; empty if there is nothing to do.
	Cure string `json:"cure"`
}

// Diagnose finds out why the client does not work. It makes a new connection and, unless userID is empty, one request;
// it asks the store, if there is one. It uses and changes nothing of the cache. A diagnosis that finds a failure is no
// error.
func (c *Client) Diagnose(ctx context.Context, userID string) (*Diagnosis, error) {
	const op = "diagnose"
	diagnosis := new(Diagnosis)
	err := c.askInPlace(ctx, op, func(call nativeCall) (err error) {
		diagnosis.JSON, err = clientDiagnose(c.handle.native, userID, call, op)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(diagnosis.JSON, diagnosis); err != nil {
		return nil, err
	}
	return diagnosis, nil
}
