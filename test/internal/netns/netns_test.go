//go:build linux

package netns

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestNetwork has three hosts that reach each other, and then do not, each direction by itself.
func TestNetwork(t *testing.T) {
	outside := interfaces(t)
	n, err := New(netip.MustParsePrefix("198.18.0.0/24"), 3)
	if errors.Is(err, ErrUnavailable) {
		t.Skip(err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	var sockets []net.PacketConn
	for i := range 3 {
		require.NoError(t, n.hosts[i].within(func() error {
			s, err := net.ListenPacket("udp4", "0.0.0.0:5000")
			sockets = append(sockets, s)
			return err
		}))
		t.Cleanup(func() { require.NoError(t, sockets[i].Close()) })
	}
	check := func(want [3][3]bool) {
		t.Helper()
		for from := range want {
			for to, heard := range want[from] {
				if from == to {
					continue
				}
				_, err := sockets[from].WriteTo([]byte("hello"), &net.UDPAddr{IP: n.Host(to).Addr.AsSlice(), Port: 5000})
				require.NoError(t, err, "what is lost is lost without a word")
				patience := 10 * time.Second
				if !heard {
					patience = 20 * time.Millisecond
				}
				require.NoError(t, sockets[to].SetReadDeadline(time.Now().Add(patience)))
				_, sender, err := sockets[to].ReadFrom(make([]byte, 100))
				if !heard {
					require.ErrorIs(t, err, os.ErrDeadlineExceeded, "host %d hears host %d", to, from)
					continue
				}
				require.NoError(t, err, "host %d does not hear host %d", to, from)
				require.Equal(t, net.JoinHostPort(n.Host(from).Addr.String(), "5000"), sender.String())
			}
		}
	}
	whole := [3][3]bool{{true, true, true}, {true, true, true}, {true, true, true}}
	check(whole)
	require.NoError(t, n.Cut([]int{0}, []int{1, 2}))
	check([3][3]bool{{true, false, false}, {true, true, true}, {true, true, true}})
	require.NoError(t, n.Cut([]int{0, 1}, []int{0, 1}))
	check([3][3]bool{{true, false, false}, {false, true, true}, {true, true, true}})
	require.NoError(t, n.Heal())
	check(whole)
	require.Equal(t, outside, interfaces(t), "the machine's own network is as it was")
}

// TestProcesses: a command runs on its host, and a test can talk to it by the host's loopback.
func TestProcesses(t *testing.T) {
	n, err := New(netip.MustParsePrefix("198.18.0.0/24"), 1)
	if errors.Is(err, ErrUnavailable) {
		t.Skip(err)
	}
	require.NoError(t, err)
	h := n.Host(0)
	t.Cleanup(func() {
		require.NoError(t, n.Close())
		_, err := h.DialContext(context.Background(), "tcp", "127.0.0.1:80")
		require.ErrorIs(t, err, net.ErrClosed)
	})
	var out strings.Builder
	cmd := exec.Command("ip", "-brief", "address")
	cmd.Stdout = &out
	require.NoError(t, h.Start(cmd))
	require.NoError(t, cmd.Wait())
	require.Contains(t, out.String(), "198.18.0.1/24")

	var l net.Listener
	require.NoError(t, h.within(func() error { l, err = net.Listen("tcp4", "127.0.0.1:0"); return err }))
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	outside, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, outside.Close()) })
	_, err = h.DialContext(context.Background(), "tcp", outside.Addr().String())
	require.ErrorIs(t, err, syscall.ECONNREFUSED, "that is another loopback")
	conn, err := h.DialContext(context.Background(), "tcp", l.Addr().String())
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	_, err = h.DialContext(context.Background(), "tcp", "localhost:80")
	require.ErrorContains(t, err, "dial within")
}

func interfaces(t *testing.T) (names []string) {
	all, err := net.Interfaces()
	require.NoError(t, err)
	for _, i := range all {
		names = append(names, i.Name)
	}
	return names
}
