package badinput

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"ledgerd/test/internal/process"
)

// mark is what a test looks for in files: data of a transaction that compression leaves as they are.
var mark = noise("mark", 96)

// history is a home with a chain that was stopped cleanly, in which one transaction, that of block markedBlock, has mark as its
// data. After a clean stop the log's entries are in a table; after a kill they are in its write-ahead log.
func history(t *testing.T, stop func(*process.Node)) (home string, c *canary) {
	home, c = newHome(t), new(canary)
	n := process.Dev(t, binary, home)
	for range markedBlock - 1 {
		c.sing(t, n)
	}
	c.sing(t, n, mark...)
	for range 100 { // more than the log looks at when it is opened
		c.sing(t, n)
	}
	stop(n)
	return home, c
}

const markedBlock = 20

// damage changes one file of dir, that of the pattern which holds mark, at the place of mark.
func damage(t *testing.T, dir, pattern string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	require.NoError(t, err)
	for _, file := range files {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		if at := bytes.Index(content, mark[:16]); at >= 0 {
			content[at+8] ^= 0x10
			require.NoError(t, os.WriteFile(file, content, 0o644))
			return
		}
	}
	t.Fatalf("none of %v holds the transaction", files)
}

func logDir(home string) string    { return filepath.Join(home, "data", "log") }
func ledgerDir(home string) string { return filepath.Join(home, "data", "ledger") }

func dev(home string) *exec.Cmd {
	return exec.Command(binary, "dev", "--datadir", home, "--http", "127.0.0.1:0")
}

// TestDamagedLogTable flips one bit of an old entry in a table of the log. The ledger has its own copy of what came of it, so the
// node runs, but nobody is given the entry; and a node that has to play it ends, and says which one it is.
func TestDamagedLogTable(t *testing.T) {
	home, c := history(t, func(n *process.Node) { n.Terminate(t) })
	damage(t, logDir(home), "*.sst")

	n := process.Dev(t, binary, home)
	c.remembers(t, n)
	lsn := fmt.Sprintf("%#x", markedBlock)
	a := call(t, n, "log_read", lsn, fmt.Sprintf("%#x", markedBlock+1))
	require.NotNil(t, a.Error, "a damaged entry was given out: %s", a.Result)
	require.Contains(t, a.Error.Message, "corrupt")
	require.Contains(t, a.Error.Message, "lsn ", "it names the position")
	c.sing(t, n)
	n.Terminate(t)

	_, stderr, code := process.Run(t, binary, "verify", "--home", home)
	require.Equal(t, exitData, code, stderr)
	require.Regexp(t, `lsn \d+: corrupt`, stderr)

	require.NoError(t, os.RemoveAll(ledgerDir(home)))
	require.Regexp(t, `lsn \d+: corrupt`, refusal(t, dev(home), exitData))
	require.Regexp(t, `lsn \d+: corrupt`, refusal(t, dev(home), exitData), "and again: it does not get better by itself")
}

// TestDamagedLogWriteAhead flips one bit in the middle of the log's write-ahead log: not the torn end of a crash, so the node
// does not cut it off but ends.
func TestDamagedLogWriteAhead(t *testing.T) {
	home, _ := history(t, (*process.Node).Kill)
	damage(t, logDir(home), "*.log")
	require.Contains(t, refusal(t, dev(home), exitData), "corrupt")
	require.Contains(t, refusal(t, dev(home), exitData), "corrupt", "nothing was cut off by the first try")
}

// newestLog returns the write-ahead log of the log that is being written: that with the highest number.
func newestLog(t *testing.T, home string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(logDir(home), "*.log"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	return slices.Max(files)
}

// TestTornLog: garbage and zeros after what was synced are what a crash leaves of a write that nobody was told of. They are cut
// off. But if the end of what was acknowledged is gone, that is no crash, and the node ends.
func TestTornLog(t *testing.T) {
	home := newHome(t)
	n := process.Dev(t, binary, home)
	var c canary
	for range 10 {
		c.sing(t, n)
	}
	for name, tail := range map[string][]byte{
		"zeros":   make([]byte, 5000),
		"garbage": noise("torn", 300),
		"header":  {0x12, 0x34, 0x56, 0x78, 0xff, 0x00, 0x05},
	} {
		n.Kill()
		file, err := os.OpenFile(newestLog(t, home), os.O_APPEND|os.O_WRONLY, 0)
		require.NoError(t, err)
		_, err = file.Write(tail)
		require.NoError(t, err)
		require.NoError(t, file.Close())
		n, err = process.TryStart(t, dev(home))
		require.NoError(t, err, "after %s at the end of the write-ahead log", name)
		c.remembers(t, n)
		c.sing(t, n)
	}
	n.Kill()
	backup := filepath.Join(t.TempDir(), "log")
	require.NoError(t, os.CopyFS(backup, os.DirFS(logDir(home))))
	file := newestLog(t, home)
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, content[:len(content)-20], 0o644))
	require.Regexp(t, `lsn \d+: corrupt: the log was synced up to lsn`, refusal(t, dev(home), exitData))
	require.NoError(t, os.RemoveAll(logDir(home)))
	require.NoError(t, os.CopyFS(logDir(home), os.DirFS(backup)))
	n = process.Dev(t, binary, home)
	c.remembers(t, n)
	c.sing(t, n)
	n.Terminate(t)
}

// answers is what a node says about its blocks, and about its newest state, as one text. State of old blocks is not asked for: it is in
// go-ethereum's freezer, whose files have no checksums.
func answers(t *testing.T, n *process.Node, c *canary) string {
	t.Helper()
	var b bytes.Buffer
	ask := func(method string, params ...any) {
		a := call(t, n, method, params...)
		fmt.Fprintf(&b, "%s %v", method, params)
		if a.Error != nil {
			fmt.Fprintf(&b, " refused: %s\n", a.Error.Message)
			return
		}
		fmt.Fprintf(&b, " %s\n", a.Result)
	}
	for number := range len(c.receipts) + 1 {
		at := fmt.Sprintf("%#x", number)
		ask("eth_getBlockByNumber", at, true)
		ask("eth_getBlockReceipts", at)
	}
	for _, r := range c.receipts {
		ask("eth_getTransactionByHash", r.TxHash)
	}
	ask("eth_getBalance", canarySink, "latest")
	ask("eth_getTransactionCount", addressOf(canaryKey), "latest")
	return b.String()
}

// TestDamagedLedger flips one bit in each file of the ledger's store, one at a time. The node may refuse to start, or mend it, or
// refuse to answer. It never answers something else than before; and the log brings all of it back once the store is deleted. Files
// of a few bytes, of tables that hold nothing, are left out.
func TestDamagedLedger(t *testing.T) {
	home, c := history(t, func(n *process.Node) { n.Terminate(t) })
	n := process.Dev(t, binary, home)
	want := answers(t, n, c)
	n.Terminate(t)

	files := []string{}
	require.NoError(t, filepath.WalkDir(ledgerDir(home), func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		if info, err := entry.Info(); err != nil || info.Size() > 64 {
			files = append(files, path)
			return err
		}
		return nil
	}))
	for _, file := range files {
		relative, err := filepath.Rel(home, file)
		require.NoError(t, err)
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			work := filepath.Join(t.TempDir(), "home")
			require.NoError(t, os.CopyFS(work, os.DirFS(home)))
			require.NoError(t, os.Chmod(filepath.Join(work, "node.key"), 0o600))
			damaged := filepath.Join(work, relative)
			content, err := os.ReadFile(damaged)
			require.NoError(t, err)
			content[len(content)/3] ^= 0x10
			require.NoError(t, os.WriteFile(damaged, content, 0o644))

			n, err := process.TryStart(t, dev(work))
			if err != nil {
				ended := err.(*process.Ended)
				require.NotZero(t, ended.Code, "it ended as if nothing were wrong:\n%s", ended.Stderr)
				t.Logf("it ended with code %d", ended.Code)
			} else {
				got := answers(t, n, c)
				if got != want {
					compareAnswers(t, want, got)
				}
				n.Kill()
			}
			require.NoError(t, os.RemoveAll(ledgerDir(work)))
			n = process.Dev(t, binary, work)
			require.Equal(t, want, answers(t, n, c), "the ledger that was made again from the log")
			n.Terminate(t)
		})
	}
}

// compareAnswers fails for each line of got that is not that of want, unless it is a refusal.
func compareAnswers(t *testing.T, want, got string) {
	t.Helper()
	w, g := bytes.Split([]byte(want), []byte("\n")), bytes.Split([]byte(got), []byte("\n"))
	require.Len(t, g, len(w))
	for i := range w {
		if !bytes.Equal(w[i], g[i]) && !bytes.Contains(g[i], []byte(" refused: ")) {
			t.Errorf("a wrong answer:\n%.600s\ninstead of\n%.600s", g[i], w[i])
		}
	}
}
