package netns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A Network is hosts that can reach each other. Its methods may not be called concurrently, those of its hosts may.
type Network struct {
	hub   *Host
	hosts []*Host
	cut   map[line]bool
}

// A line leads from one host to another, one way.
type line struct{ from, to int }

// A Host is a network namespace.
type Host struct {
	Addr netip.Addr

	mu sync.RWMutex // held while ns is used: a client may still be dialling when the network is closed
	ns *os.File     // nil: closed
}

// New makes so many hosts, with the first addresses of an IPv4 network. ErrUnavailable says what is missing.
func New(network netip.Prefix, hosts int) (*Network, error) {
	if _, err := exec.LookPath("ip"); err != nil {
		return nil, fmt.Errorf("%w: the command ip (iproute2) is not installed", ErrUnavailable)
	}
	n := &Network{cut: map[line]bool{}}
	if err := n.build(network, hosts); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", ErrUnavailable, err), n.Close())
	}
	return n, nil
}

func (n *Network) build(network netip.Prefix, hosts int) (err error) {
	if n.hub, err = newHost(netip.Addr{}); err != nil {
		return err
	}
	for _, a := range addresses(network, hosts) {
		h, err := newHost(a)
		if err != nil {
			return err
		}
		n.hosts = append(n.hosts, h)
	}
	if err := n.hub.ip(n.bridge()); err != nil {
		return err
	}
	for i, h := range n.hosts {
		if err := h.ip(n.connect(i, network.Bits())); err != nil {
			return err
		}
	}
	return n.carries()
}

// The kernel takes note of a line that is up a little later, and loses what is sent over it until then.
const (
	carriers = 10 * time.Second // how long it may take
	glance   = 5 * time.Millisecond
)

// carries waits until the bridge forwards to every host, and every host sends.
func (n *Network) carries() error {
	for deadline := time.Now().Add(carriers); ; time.Sleep(glance) {
		ports, err := n.hub.show("link", "show", "master", "br0")
		if err != nil {
			return err
		}
		up := strings.Count(ports, "bridge_slave state forwarding")
		for _, h := range n.hosts {
			line, err := h.show("link", "show", "eth0")
			if err != nil {
				return err
			}
			up += strings.Count(line, "state UP")
		}
		if up == 2*len(n.hosts) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the lines are not up after %v", carriers)
		}
	}
}

// bridge is what makes the hub, in the words of ip.
func (n *Network) bridge() []string {
	lines := []string{"link add br0 type bridge", "link set br0 up"}
	for i, h := range n.hosts {
		lines = append(lines,
			fmt.Sprintf("link add port%d type veth peer name eth0 address %s netns %s", i, mac(hardware(i)), h.path()),
			fmt.Sprintf("link set port%d master br0 up", i))
	}
	return lines
}

// connect is what makes a host one of the network.
func (n *Network) connect(host, bits int) []string {
	lines := []string{"link set lo up", fmt.Sprintf("addr add %v/%d dev eth0", n.hosts[host].Addr, bits), "link set eth0 up"}
	for i := range n.hosts {
		if i != host {
			lines = append(lines, n.neighbour(i, hardware(i)))
		}
	}
	return lines
}

func (n *Network) neighbour(host int, at [6]byte) string {
	return fmt.Sprintf("neigh replace %v lladdr %s dev eth0 nud permanent", n.hosts[host].Addr, mac(at))
}

func mac(a [6]byte) string { return net.HardwareAddr(a[:]).String() }

// Host returns the i-th host.
func (n *Network) Host(i int) *Host { return n.hosts[i] }

// Cut loses everything that any of the hosts from sends to another one of the hosts to, until Heal.
func (n *Network) Cut(from, to []int) error {
	var errs []error
	for _, f := range from {
		var lines []string
		for _, t := range to {
			if f != t && !n.cut[line{f, t}] {
				n.cut[line{f, t}] = true
				lines = append(lines, n.neighbour(t, nobody))
			}
		}
		errs = append(errs, n.hosts[f].ip(lines))
	}
	return errors.Join(errs...)
}

// Heal connects all hosts again.
func (n *Network) Heal() error {
	var errs []error
	for i, h := range n.hosts {
		var lines []string
		for to := range n.hosts {
			if n.cut[line{i, to}] {
				lines = append(lines, n.neighbour(to, hardware(to)))
			}
		}
		errs = append(errs, h.ip(lines))
	}
	clear(n.cut)
	return errors.Join(errs...)
}

// Close lets the hosts go. Those on which processes run last as long as these.
func (n *Network) Close() error {
	var errs []error
	for _, h := range slices.Concat(n.hosts, []*Host{n.hub}) {
		if h != nil {
			errs = append(errs, h.close())
		}
	}
	n.hosts, n.hub = nil, nil
	return errors.Join(errs...)
}

func (h *Host) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	ns := h.ns
	h.ns = nil
	return ns.Close()
}

// enter puts the calling thread into the namespace.
func (h *Host) enter() error {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if h.ns == nil {
		return net.ErrClosed
	}
	return unix.Setns(int(h.ns.Fd()), unix.CLONE_NEWNET)
}

// newHost makes a namespace with nothing in it.
func newHost(a netip.Addr) (*Host, error) {
	h := &Host{Addr: a}
	err := apart(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare a network namespace: %w", err)
		}
		h.ns, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		return nil, err
	}
	return h, nil
}

// apart calls f on a thread that ends afterwards, so that f may change what it is (invariant 1).
func apart(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its goroutine
		done <- f()
	}()
	return <-done
}

// within calls f in the namespace of the host.
func (h *Host) within(f func() error) error {
	return apart(func() error {
		if err := h.enter(); err != nil {
			return fmt.Errorf("enter the namespace of %v: %w", h.Addr, err)
		}
		return f()
	})
}

// path names the namespace to processes that this one starts.
func (h *Host) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), h.ns.Fd()) }

// ip has the command ip carry out lines in the host, all or an error.
func (h *Host) ip(lines []string) error {
	if len(lines) == 0 {
		return nil
	}
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	_, err := h.run(cmd)
	return err
}

// show returns what the command ip has to tell in the host.
func (h *Host) show(args ...string) (string, error) {
	return h.run(exec.Command("ip", append([]string{"-details"}, args...)...))
}

func (h *Host) run(cmd *exec.Cmd) (string, error) {
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := h.Start(cmd); err != nil {
		return "", err
	}
	if err := cmd.Wait(); err != nil {
		return "", fmt.Errorf("ip: %w: %s", err, bytes.TrimSpace(said.Bytes()))
	}
	return said.String(), nil
}

// Start starts a command on the host.
func (h *Host) Start(cmd *exec.Cmd) error { return h.within(cmd.Start) }

// DialContext connects as a process of the host does, to an address that is a number: a name would be looked up elsewhere.
func (h *Host) DialContext(ctx context.Context, network, address string) (conn net.Conn, err error) {
	if _, err := netip.ParseAddrPort(address); err != nil {
		return nil, fmt.Errorf("dial within %v: %w", h.Addr, err)
	}
	err = h.within(func() error {
		var d net.Dialer
		conn, err = d.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}
