package spikeauth

import (
	"context"
	"log/slog"
	"time"
)

// work is what was done for a token.
type work struct {
	attempts int
	shared   bool   // another call made the exchange
	renewal  Status // not 0: the old token, whose renewal failed so
}

// log writes the line of a call that missed and has ended. Its callers hold nothing that another call waits for: a handler
// may be slow. One that panics costs the line, and not the token.
func (h *handle) log(ctx context.Context, began time.Time, done work, err error) {
	if h.logger == nil {
		return
	}
	defer func() { _ = recover() }()
	if failed, ok := err.(*Error); ok {
		isOwn := failed.Status < StatusResolve || failed.Status == StatusCancelled
		if !isOwn && !failed.Shared {
			h.logLine(ctx, slog.LevelWarn, "call failed", failed.Status, failed.Attempts, began)
		}
	} else if done.renewal != StatusOK {
		h.logLine(ctx, slog.LevelWarn, "renewal failed, old token kept", done.renewal, done.attempts, began)
	} else if done.attempts > 0 && !done.shared {
		h.logLine(ctx, slog.LevelDebug, "exchange", StatusOK, done.attempts, began)
	}
}

func (h *handle) logLine(ctx context.Context, level slog.Level, event string, status Status, attempts int, began time.Time) {
	h.logger.LogAttrs(ctx, level, event, slog.String("status", status.String()), slog.Int("attempts", attempts),
		slog.Int64("ms", time.Since(began).Milliseconds()))
}
