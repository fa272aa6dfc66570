package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/ethereum/go-ethereum/common/hexutil"
	gethrpc "github.com/ethereum/go-ethereum/rpc"
	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
)

// privateKey is the key of whoever has a number.
func privateKey(n int) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(n)}, ed25519.SeedSize))
}

func publicKey(n int) ed25519.PublicKey { return privateKey(n).Public().(ed25519.PublicKey) }

// fakeNode answers for a log of two segments; what it makes of a request, its mode says.
type fakeNode struct {
	mu     sync.Mutex
	mode   string
	asked  int // for the same reconfiguration
	answer map[string]any
}

// stages of a reconfiguration that succeeds, as they are seen one after the other.
var fakeStages = []map[string]any{
	{"stage": "preparing"},
	{"stage": "preparing", "ready": []string{"0x1"}},
	{"stage": "sealing", "ready": []string{"0x1", "0x3"}},
	{"stage": "switching", "base": "0x64"},
	{"stage": "completing", "base": "0x64", "gapMilliseconds": 12.345, "switched": true},
	{"stage": "complete", "base": "0x64", "gapMilliseconds": 12.345, "switched": true, "complete": true, "running": false, "over": []string{"0x1", "0x3"}},
}

func (n *fakeNode) Segments() []map[string]any {
	member := func(id int, address string) map[string]any {
		return map[string]any{
			"id": hexutil.Uint64(id), "nodeKey": hexutil.Bytes(publicKey(id)), "consensusKey": "0x", "peerAddress": address, "cometAddresses": []string{"", ""},
		}
	}
	segment := func(epoch, base int, members ...map[string]any) map[string]any {
		return map[string]any{
			"network": hexutil.Bytes(bytes.Repeat([]byte{0xee}, 32)), "epoch": hexutil.Uint64(epoch), "base": hexutil.Uint64(base), "engine": "raft", "faults": "crash",
			"params": map[string]string{}, "members": members, "admins": []hexutil.Bytes{hexutil.Bytes(publicKey(101)), hexutil.Bytes(publicKey(102))},
			"threshold": 1, "ledger": "0x",
		}
	}
	return []map[string]any{
		segment(1, 1, member(1, "a:1"), member(2, "b:1")),
		segment(2, 50, member(1, "a:1"), member(3, "c:1"), member(4, "d:1")),
	}
}

func (n *fakeNode) Tail() hexutil.Uint64 { return 90 }

func (n *fakeNode) Members() []map[string]any {
	return []map[string]any{
		{"id": "0x1", "nodeKey": hexutil.Bytes(publicKey(1)), "peerAddress": "a:1", "epoch": "0x2", "inSegment": true, "reachable": true, "mayStop": false},
		{"id": "0x3", "nodeKey": hexutil.Bytes(publicKey(3)), "peerAddress": "c:1", "epoch": nil, "inSegment": true, "reachable": false, "mayStop": false},
		{"id": "0x2", "nodeKey": hexutil.Bytes(publicKey(2)), "peerAddress": "b:1", "epoch": "0x1", "inSegment": false, "reachable": true, "mayStop": n.mode != "needed"},
	}
}

// fakeError is an error with a code.
type fakeError struct {
	code int
	text string
}

func (e fakeError) Error() string  { return e.text }
func (e fakeError) ErrorCode() int { return e.code }

func (n *fakeNode) Reconfigure(request hexutil.Bytes, signatures []struct{ Key, Signature hexutil.Bytes }) (map[string]any, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	q, err := consensus.DecodeRequest(request)
	if err != nil {
		return nil, fakeError{-32602, err.Error()}
	}
	good := 0
	for _, s := range signatures {
		if ed25519.Verify(ed25519.PublicKey(s.Key), q.SigningMessage(), s.Signature) {
			good++
		}
	}
	switch {
	case n.mode == "busy":
		return nil, fakeError{-32000, "another reconfiguration is under way on this node, to epoch 3"}
	case good == 0 || n.mode == "refuses":
		return nil, fakeError{-32602, "reconfigure: invalid: 0 good signatures of administrators of epoch 2, want 1"}
	}
	hash := q.Hash()
	n.answer = map[string]any{
		"epoch": hexutil.Uint64(q.Epoch), "request": hexutil.Bytes(hash[:]), "identity": "0x", "engine": q.Spec.Engine, "ready": []string{}, "over": []string{},
		"base": nil, "gapMilliseconds": nil, "running": true, "switched": false, "complete": false, "superseded": false, "error": nil,
	}
	return n.step(), nil
}

func (n *fakeNode) Reconfiguration(hexutil.Uint64) map[string]any {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mode == "forgets" && n.asked == 3 { // once: it was started anew
		n.asked++
		return nil
	}
	return n.step()
}

// step is how the reconfiguration stands at the next look.
func (n *fakeNode) step() map[string]any {
	stage := n.asked
	n.asked++
	end := func(stage, reason string) {
		n.answer["stage"], n.answer["running"], n.answer["error"] = stage, false, reason
	}
	for k, v := range fakeStages[min(stage, len(fakeStages)-1)] {
		n.answer[k] = v
	}
	switch {
	case n.mode == "unready" && stage == 1:
		end("abandoned", "1 of the next members are ready, it takes 2\nmember 3 does not answer")
	case n.mode == "superseded" && stage == 2:
		n.answer["superseded"] = true
		end("abandoned", "epoch 3: another request was sealed first")
	case n.mode == "stuck" && stage == 4:
		end("completing", "not over after 5m0s")
	}
	return n.answer
}

// serve makes the node reachable; in mode "dies" only until it has told of two stages.
func (n *fakeNode) serve(t *testing.T) string {
	server := gethrpc.NewServer()
	require.NoError(t, server.RegisterName("log", n))
	listener := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.mu.Lock()
		dead := n.mode == "dies" && n.asked >= 3
		n.mu.Unlock()
		if dead {
			panic(http.ErrAbortHandler)
		}
		server.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { listener.Close(); server.Stop() })
	return listener.URL
}

// TestReconfigureCommand plays testdata/node: command lines against nodes that are made up. `node name=A mode=M` makes one, $A is its URL;
// `key file=F n=N` writes the key with a number; $KEYn is its public half.
func TestReconfigureCommand(t *testing.T) {
	datadriven.Walk(t, "testdata/node", func(t *testing.T, path string) {
		dir := t.TempDir()
		names := []string{"$DIR", dir}
		for n := range 10 {
			names = append(names, fmt.Sprintf("$KEY%d", n), fmt.Sprintf("%x", []byte(publicKey(n))))
		}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "node":
				var name, mode string
				d.ScanArgs(t, "name", &name)
				d.MaybeScanArgs(t, "mode", &mode)
				names = append(names, "$"+name, (&fakeNode{mode: mode}).serve(t))
				return ""
			case "key":
				var file string
				var n int
				d.ScanArgs(t, "file", &file)
				d.ScanArgs(t, "n", &n)
				der, err := x509.MarshalPKCS8PrivateKey(privateKey(n))
				require.NoError(t, err)
				require.NoError(t, os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
				return ""
			case "write":
				var file string
				d.ScanArgs(t, "file", &file)
				require.NoError(t, os.WriteFile(filepath.Join(dir, file), []byte(strings.NewReplacer(names...).Replace(d.Input)), 0o600))
				return ""
			case "replace": // replace file=F, with the old and the new text as input, one a line
				var file string
				d.ScanArgs(t, "file", &file)
				before, after, _ := strings.Cut(d.Input, "\n")
				text, err := os.ReadFile(filepath.Join(dir, file))
				require.NoError(t, err)
				require.Contains(t, string(text), before)
				require.NoError(t, os.WriteFile(filepath.Join(dir, file), []byte(strings.Replace(string(text), before, after, 1)), 0o600))
				return ""
			case "ledgerd":
				var args []string
				for arg := range strings.Lines(d.Input) {
					args = append(args, strings.NewReplacer(names...).Replace(strings.TrimSpace(arg)))
				}
				stdout, stderr, code := command(t, args...)
				if stderr != "" {
					stdout += "stderr: " + stderr
				}
				return strings.ReplaceAll(stdout, dir, "$DIR") + fmt.Sprintf("exit %d\n", code)
			}
			t.Fatalf("unknown directive %q", d.Cmd)
			return ""
		})
	})
}
