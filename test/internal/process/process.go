// Package process runs the real ledgerd for tests that see it as its users do: a binary with arguments, a ready line on stdout,
// messages on stderr, and an exit code.
package process

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/ethclient"
	"github.com/ethereum/go-ethereum/rpc"
	"github.com/stretchr/testify/require"
)

// ChainID is the chain id of `ledgerd dev`.
const ChainID = 1337

// Patience is how long what takes a fraction of a second on an idle machine may take.
const Patience = time.Minute

// Build compiles ledgerd into dir and returns the path of the binary.
func Build(dir string, flags ...string) (string, error) {
	binary := dir + "/ledgerd"
	args := append(append([]string{"build", "-o", binary}, flags...), "ledgerd/cmd/ledgerd")
	out, err := exec.Command("go", args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build ledgerd: %w\n%s", err, out)
	}
	return binary, nil
}

// Node is a running ledgerd that serves.
type Node struct {
	URL    string // http://127.0.0.1:...
	Client *ethclient.Client
	Cmd    *exec.Cmd

	stderr *buffer
	ended  chan struct{} // closed when the process has ended and Cmd.ProcessState is set
}

// Dev starts `ledgerd dev --datadir home` on a free port.
func Dev(t testing.TB, binary, home string, more ...string) *Node {
	t.Helper()
	return Start(t, exec.Command(binary, append([]string{"dev", "--datadir", home, "--http", "127.0.0.1:0"}, more...)...))
}

// Start starts a command that becomes a node, and returns when it has printed that it serves. It fails the test, with what the
// process said, if that does not happen. The process is killed at the end of the test if it still runs.
func Start(t testing.TB, cmd *exec.Cmd) *Node {
	t.Helper()
	n, err := TryStart(t, cmd)
	require.NoError(t, err)
	return n
}

// TryStart is Start for a command that may end instead. The error then is an *Ended.
func TryStart(t testing.TB, cmd *exec.Cmd) (*Node, error) {
	t.Helper()
	return TryStartOn(t, nil, cmd, Patience)
}

// A Host is where processes run, with a loopback of its own. A *netns.Host is one.
type Host interface {
	Start(cmd *exec.Cmd) error
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// TryStartOn is TryStart on another host than this one (nil), with another patience for a node that has much to do before it serves.
func TryStartOn(t testing.TB, host Host, cmd *exec.Cmd, patience time.Duration) (*Node, error) {
	t.Helper()
	n := &Node{Cmd: cmd, stderr: new(buffer), ended: make(chan struct{})}
	cmd.Stderr = n.stderr
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, start(host, cmd))
	t.Cleanup(func() {
		n.Kill()
		if t.Failed() {
			t.Logf("stderr of %v:\n%s", cmd.Args, n.Stderr())
		}
	})
	ready := make(chan string, 1)
	go func() {
		defer close(n.ended)
		ready <- readyURL(stdout)
		_, _ = io.Copy(io.Discard, stdout)
		_ = cmd.Wait()
	}()
	select {
	case n.URL = <-ready:
	case <-time.After(patience):
		n.Kill()
		t.Fatalf("not ready after %v:\n%s", patience, n.Stderr())
	}
	if n.URL == "" {
		<-n.ended
		return nil, &Ended{Code: cmd.ProcessState.ExitCode(), Stderr: n.Stderr()}
	}
	n.Client, err = dial(host, n.URL)
	require.NoError(t, err)
	_, err = n.Client.ChainID(t.Context())
	require.NoError(t, err, "it said that it serves")
	return n, nil
}

func start(host Host, cmd *exec.Cmd) error {
	if host == nil {
		return cmd.Start()
	}
	return host.Start(cmd)
}

func dial(host Host, url string) (*ethclient.Client, error) {
	if host == nil {
		return ethclient.Dial(url)
	}
	client, err := rpc.DialOptions(context.Background(), url, rpc.WithHTTPClient(&http.Client{Transport: &http.Transport{
		DialContext: host.DialContext, MaxIdleConnsPerHost: 100,
	}}))
	if err != nil {
		return nil, err
	}
	return ethclient.NewClient(client), nil
}

// readyURL reads up to the ready line and returns the URL in it, or "" if the output ends before.
func readyURL(stdout io.Reader) string {
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), "ready http="); ok {
			url, _, _ := strings.Cut(rest, " ")
			return url
		}
	}
	return ""
}

// Ended says that a process ended before it served.
type Ended struct {
	Code   int // -1: by a signal
	Stderr string
}

func (e *Ended) Error() string { return fmt.Sprintf("ended with code %d:\n%s", e.Code, e.Stderr) }

// Run runs a command that ends by itself.
func Run(t testing.TB, binary string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	return RunOn(t, nil, binary, args...)
}

// RunOn is Run on another host than this one (nil).
func RunOn(t testing.TB, host Host, binary string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	require.NoError(t, start(host, cmd))
	_ = cmd.Wait() // the code tells
	require.NoError(t, ctx.Err(), "%v did not end by itself:\n%s", args, &errs)
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// Stderr is what the process has said so far.
func (n *Node) Stderr() string { return n.stderr.String() }

// Kill ends the process with SIGKILL, if it still runs, and waits for its end.
func (n *Node) Kill() {
	_ = n.Cmd.Process.Signal(syscall.SIGKILL)
	<-n.ended
}

// Wait returns the exit code of a process that ends by itself within a time; -1 if a signal ended it.
func (n *Node) Wait(t testing.TB, within time.Duration) int {
	t.Helper()
	select {
	case <-n.ended:
	case <-time.After(within):
		t.Fatalf("still running after %v:\n%s", within, n.Stderr())
	}
	return n.Cmd.ProcessState.ExitCode()
}

// Terminate asks the process to stop and demands that it does so cleanly.
func (n *Node) Terminate(t testing.TB) {
	t.Helper()
	n.Client.Close()
	require.NoError(t, n.Cmd.Process.Signal(syscall.SIGTERM))
	require.Equal(t, 0, n.Wait(t, Patience), "a clean stop ends with code 0:\n%s", n.Stderr())
}

// Resident returns the resident memory of the process in bytes, on Linux; 0 where it cannot be told.
func (n *Node) Resident() int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", n.Cmd.Process.Pid))
	var size, resident int64
	if err != nil {
		return 0
	}
	if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
		return 0
	}
	return resident * int64(os.Getpagesize())
}

// buffer collects what a process writes while a test reads it.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
