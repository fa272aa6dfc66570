package netns

import (
	"errors"
	"net/netip"
)

// ErrUnavailable is returned by New where this machine has no hosts to give. The text says why.
var ErrUnavailable = errors.New("network namespaces cannot be made here")

// hardware is the address of a host's end of its line; nobody's is that of none.
func hardware(host int) [6]byte { return [6]byte{0x02, 'h', 'o', 's', byte(host >> 8), byte(host)} }

var nobody = [6]byte{0x02, 'n', 'o', 'n', 'e', 0}

// addresses returns the first n addresses of hosts in a network.
func addresses(network netip.Prefix, n int) []netip.Addr {
	all := make([]netip.Addr, n)
	a := network.Masked().Addr()
	for i := range all {
		a = a.Next()
		all[i] = a
	}
	return all
}
