package streams

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/stretchr/testify/require"

	"ledgerd/rpc/feed/feedclient"
	"ledgerd/rpc/feed/protocol"
	"ledgerd/test/internal/process"
)

// everything is what the clients of these tests ask for: two kinds that every block has, and one that the index of logs finds.
func everything(emitter common.Address) []protocol.Filter {
	return []protocol.Filter{{Kind: protocol.KindBlock}, {Kind: protocol.KindReceipt}, {Kind: protocol.KindLog, Address: []common.Address{emitter}, Topics: [][]common.Hash{{{31: 3}, {31: 4}}}}}
}

// How the follower is told what to do.
const (
	followerFile    = "LEDGERD_TEST_FOLLOWER_FILE"
	followerURL     = "LEDGERD_TEST_FOLLOWER_URL"
	followerEmitter = "LEDGERD_TEST_FOLLOWER_EMITTER"
)

// follow is a process that appends a line to a file for every event, with its cursor, and begins behind the last line that is whole. A line is one write, so
// that an event is in the file or it is not, whenever the process is killed.
func follow(path string) int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	lines, err := readLines(path)
	if err != nil {
		return fail(err)
	}
	opts := feedclient.Options{Filters: everything(common.HexToAddress(os.Getenv(followerEmitter))), Start: protocol.StartEarliest}
	if len(lines) > 0 {
		opts.Cursor, _, _ = strings.Cut(lines[len(lines)-1], " ")
		opts.Start = ""
	}
	c, err := feedclient.New([]string{os.Getenv(followerURL)}, opts)
	if err != nil {
		return fail(err)
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fail(err)
	}
	return fail(c.Run(context.Background(), func(_ context.Context, e feedclient.Event) error {
		_, err := fmt.Fprintf(file, "%s %s %s\n", e.Cursor, e.Kind, identify(e))
		return err
	}))
}

// identify returns what tells an event from all others.
func identify(e feedclient.Event) string {
	var data struct{ Hash, TransactionHash, LogIndex string }
	if err := e.Decode(&data); err != nil {
		return err.Error()
	}
	return data.Hash + data.TransactionHash + data.LogIndex
}

func readLines(path string) (lines []string, err error) {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	for s := bufio.NewScanner(file); s.Scan(); {
		lines = append(lines, s.Text())
	}
	return lines, nil
}

// TestKilledClientMissesNothing: a client, a process of its own, is killed with SIGKILL and started again 100 times while the chain grows. In the end its file
// has every event once, in order: what JSON-RPC says that the chain has.
func TestKilledClientMissesNothing(t *testing.T) {
	const kills = 100
	n := process.Dev(t, binary, filepath.Join(t.TempDir(), "home"))
	s := newSender(t, n)
	s.deploy()
	stop := s.load(20)
	defer stop()
	self, err := os.Executable()
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "events")
	begin := time.Now()
	start := func() *exec.Cmd {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), followerFile+"="+path, followerURL+"="+n.URL, followerEmitter+"="+s.emitter.Hex())
		cmd.Stderr = os.Stderr
		require.NoError(t, cmd.Start())
		return cmd
	}
	kill := func(cmd *exec.Cmd) {
		require.NoError(t, cmd.Process.Signal(syscall.SIGKILL))
		err := cmd.Wait()
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit)
		require.Equal(t, -1, exit.ExitCode(), "it ended by itself")
	}
	size := func() int64 {
		info, err := os.Stat(path)
		if err != nil {
			return 0
		}
		return info.Size()
	}
	for round := range kills {
		before := size()
		cmd := start()
		// It has got going, and is somewhere in the middle.
		require.Eventually(t, func() bool { return size() > before+int64(round*137%8000) }, process.Patience, time.Millisecond, "round %d: nothing comes", round)
		kill(cmd)
	}
	stop()
	took := time.Since(begin)

	want := expected(t, n, s.emitter)
	cmd := start()
	require.Eventually(t, func() bool {
		got, err := readLines(path)
		return err == nil && len(got) >= len(want)
	}, process.Patience, 10*time.Millisecond, "not all comes")
	kill(cmd)
	got, err := readLines(path)
	require.NoError(t, err)
	cursors := make(map[string]bool)
	for i, line := range got {
		cursor, event, _ := strings.Cut(line, " ")
		require.False(t, cursors[cursor], "cursor %s twice", cursor)
		cursors[cursor] = true
		got[i] = event
	}
	require.Equal(t, len(want), len(got), "events in the chain, and those that came")
	for i := range want {
		require.Equal(t, want[i], got[i], "event %d", i)
	}
	t.Logf("killed %d times in %v, %d events, 0 missing, 0 doubled", kills, took.Round(time.Millisecond), len(got))
	n.Terminate(t)
}

// expected is everything up to the head, by JSON-RPC.
func expected(t *testing.T, n *process.Node, emitter common.Address) (events []string) {
	t.Helper()
	c := n.Client.Client()
	var head hexutil.Uint64
	require.NoError(t, c.Call(&head, "eth_blockNumber"))
	type entry struct {
		Hash, TransactionHash, LogIndex string
		BlockNumber                     hexutil.Uint64
	}
	var logs []entry
	require.NoError(t, c.Call(&logs, "eth_getLogs", map[string]any{"fromBlock": "0x0", "address": emitter, "topics": []any{[]common.Hash{{31: 3}, {31: 4}}}}))
	for number := range head + 1 {
		var block entry
		require.NoError(t, c.Call(&block, "eth_getHeaderByNumber", number))
		events = append(events, "block "+block.Hash)
		var receipts []entry
		require.NoError(t, c.Call(&receipts, "eth_getBlockReceipts", number))
		for _, r := range receipts {
			events = append(events, "receipt "+r.TransactionHash)
		}
		for ; len(logs) > 0 && logs[0].BlockNumber == number; logs = logs[1:] {
			events = append(events, "log "+logs[0].TransactionHash+logs[0].LogIndex)
		}
	}
	require.Empty(t, logs)
	return events
}

// TestFeedGoesOnAfterARestart: a client stays while its node is stopped and killed and comes back. It goes on where it was.
func TestFeedGoesOnAfterARestart(t *testing.T) {
	home := filepath.Join(t.TempDir(), "home")
	n := process.Dev(t, binary, home)
	address := strings.TrimPrefix(n.URL, "http://")
	s := newSender(t, n)
	s.deploy()
	c, err := feedclient.New([]string{n.URL}, feedclient.Options{Filters: everything(s.emitter), Start: protocol.StartEarliest, MinPause: 10 * time.Millisecond, MaxPause: 100 * time.Millisecond})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	events := make(chan string, 100_000)
	ended := make(chan error, 1)
	go func() {
		ended <- c.Run(ctx, func(_ context.Context, e feedclient.Event) error {
			events <- fmt.Sprintf("%s %s", e.Kind, identify(e))
			return nil
		})
	}()
	for round, end := range []func(){n.Kill, nil, nil} {
		require.NoError(t, s.batch(t.Context(), 30))
		if round == 1 {
			end = func() { n.Terminate(t) }
		}
		if end == nil {
			break
		}
		end()
		n = process.Dev(t, binary, home, "--http", address)
		s.client = n.Client.Client()
	}
	for i, want := range expected(t, n, s.emitter) {
		select {
		case got := <-events:
			require.Equal(t, want, got, "event %d", i)
		case <-time.After(process.Patience):
			t.Fatalf("event %d does not come: %s", i, want)
		}
	}
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
	require.Empty(t, events)

	// The same by server-sent events, from a cursor of the other.
	response, err := http.Get(n.URL + "/feed/sse?kind=block&start=0x1")
	require.NoError(t, err)
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok && strings.Contains(data, `"kind":"block"`) {
			var m protocol.Message
			require.NoError(t, json.Unmarshal([]byte(data), &m))
			break
		}
	}
	require.NoError(t, lines.Err())
	n.Terminate(t) // a stream that is open does not hold it up
}

// TestRareAccountInThePast: a transaction and its receipt are found by sender and recipient, far below the head.
func TestRareAccountInThePast(t *testing.T) {
	n := process.Dev(t, binary, filepath.Join(t.TempDir(), "home"))
	s := newSender(t, n)
	s.deploy()
	rare := common.HexToAddress("0x4a4e")
	tx := s.sign(&rare, 50_000, nil)
	require.NoError(t, s.sync(tx))
	for range 50 {
		require.NoError(t, s.batch(t.Context(), 2))
	}
	self := crypto.PubkeyToAddress(s.key.PublicKey)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got []string
	c, err := feedclient.New([]string{n.URL}, feedclient.Options{
		Filters: []protocol.Filter{
			{Kind: protocol.KindTransaction, To: []common.Address{rare}, From: []common.Address{self}},
			{Kind: protocol.KindReceipt, To: []common.Address{rare}},
			{Kind: protocol.KindReceipt, From: []common.Address{rare}}, // there is none
		},
		Start: protocol.StartEarliest,
		Progress: func(_ string, live bool) {
			if live { // the end of the past
				cancel()
			}
		},
	})
	require.NoError(t, err)
	err = c.Run(ctx, func(_ context.Context, e feedclient.Event) error {
		got = append(got, fmt.Sprintf("%s %s", e.Kind, identify(e)))
		return nil
	})
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, []string{"transaction " + tx.Hash().Hex(), "receipt " + tx.Hash().Hex()}, got)
	n.Terminate(t)
}
