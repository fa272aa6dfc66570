package rpc

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// rewriting says whether to write testdata/io again. The flag is datadriven's, for the dialogues.
func rewriting() bool { return flag.Lookup("rewrite").Value.String() == "true" }

// exchanges are requests with their answers as they are on the wire, in the format of execution-apis: one file each, >> and <<. They are of a chain
// that the harness makes anew in every run, and that is the same in every run.
type exchanges struct {
	node  *testNode
	count map[string]int // by method
	files []string
}

func newExchanges(n *testNode) *exchanges { return &exchanges{node: n, count: make(map[string]int)} }

// unrecorded are methods whose answers are never the same twice: ids of filters, and what hangs on them; and those whose answer other tests compare as a
// whole.
var unrecorded = []string{
	"eth_newFilter", "eth_newBlockFilter", "eth_newPendingTransactionFilter", "eth_getFilterChanges", "eth_getFilterLogs", "eth_uninstallFilter",
	"rpc_discover", "rpc_modules", "web3_clientVersion", "admin_nodeInfo",
}

// ask returns the result, and compares the exchange with the recorded one, or with -rewrite records it.
func (x *exchanges) ask(t *testing.T, method string, args ...any) json.RawMessage {
	t.Helper()
	if args == nil {
		args = []any{}
	}
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": args})
	require.NoError(t, err)
	_, _, answer := x.node.do(t, exchange{"POST", "/", string(body), nil})
	var form struct {
		Result json.RawMessage `json:"result"`
	}
	require.NoError(t, json.Unmarshal([]byte(answer), &form))
	require.NotNil(t, form.Result, "%s: %s", method, answer)
	if slices.Contains(unrecorded, method) {
		return form.Result
	}
	x.count[method]++
	file := filepath.Join("testdata", "io", method, fmt.Sprintf("%02d.io", x.count[method]))
	x.files = append(x.files, file)
	text := fmt.Appendf(nil, ">> %s\n<< %s\n", body, strings.TrimSpace(answer))
	if rewriting() {
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, text, 0o644))
		return form.Result
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err, "go test ./rpc -rewrite records it")
	if !bytes.Equal(text, want) {
		t.Errorf("%s is another exchange now (-rewrite records it):\n%s", file, text)
	}
	return form.Result
}

// noOthers finds recorded exchanges, of the namespaces, that nobody asks for any more, and with -rewrite removes them.
func (x *exchanges) noOthers(t *testing.T, namespaces ...string) {
	t.Helper()
	for _, namespace := range namespaces {
		files, err := filepath.Glob("testdata/io/" + namespace + "_*/*.io")
		require.NoError(t, err)
		for _, file := range files {
			switch {
			case slices.Contains(x.files, file):
			case rewriting():
				require.NoError(t, os.Remove(file))
			default:
				t.Errorf("%s is of no request", file)
			}
		}
	}
}
