//go:build !linux

package netns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
)

// New returns ErrUnavailable.
func New(netip.Prefix, int) (*Network, error) {
	return nil, fmt.Errorf("%w: this is %s", ErrUnavailable, runtime.GOOS)
}

// Network and Host are those of Linux; nobody has one.
type (
	Network struct{}
	Host    struct{}
)

func (*Network) Host(int) *Host           { return nil }
func (*Network) Cut(from, to []int) error { return ErrUnavailable }
func (*Network) Heal() error              { return ErrUnavailable }
func (*Network) Close() error             { return nil }
func (*Host) Start(*exec.Cmd) error       { return ErrUnavailable }
func (*Host) DialContext(context.Context, string, string) (net.Conn, error) {
	return nil, ErrUnavailable
}
