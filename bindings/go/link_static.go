//go:build cgo && spikeauth_static

package spikeauth

// The archive precedes the flags from pkg-config and resolves every symbol. pkg-config also names the shared library,
// which the linker would prefer; --as-needed then drops it.

// #cgo pkg-config: --static spike_auth
// #cgo CFLAGS: -DSPIKE_AUTH_STATIC
// #cgo LDFLAGS: -l:libspike_auth.a -Wl,--as-needed
import "C"
