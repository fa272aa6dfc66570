package architecture

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// TestImportDirection holds this repository to the rules of doc.go.
func TestImportDirection(t *testing.T) {
	root, module := repository(t)
	violations, err := Check(os.DirFS(root), module)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range violations {
		t.Error(v)
	}
}

// TestBinaryStandsAlone: the folder of commands holds the one binary (a second command would be a
// second place that wires engines).
func TestBinaryStandsAlone(t *testing.T) {
	root, _ := repository(t)
	entries, err := os.ReadDir(filepath.Join(root, "cmd"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "ledgerd" {
			t.Errorf("cmd/%s: there is one binary, cmd/ledgerd", e.Name())
		}
	}
}

// TestRulesHaveNoCycle walks the table from every room (rule 6).
func TestRulesHaveNoCycle(t *testing.T) {
	done := map[string]bool{}
	var visit func(dir string, above []string)
	visit = func(dir string, above []string) {
		if slices.Contains(above, dir) {
			t.Fatalf("the rooms import each other: %s", strings.Join(append(above, dir), " -> "))
		}
		if done[dir] {
			return
		}
		r := roomOf(dir)
		if r == nil || r.dir != dir {
			t.Fatalf("%s is granted to %s and is no room", dir, above[len(above)-1])
		}
		for _, next := range r.imports {
			visit(next, append(slices.Clone(above), dir))
		}
		for _, next := range r.tests {
			if to := roomOf(next); to == nil || to.dir != next {
				t.Fatalf("%s is granted to the tests of %s and is no room", next, dir)
			}
		}
		done[dir] = true
	}
	for _, r := range rooms {
		visit(r.dir, nil)
	}
}

// TestCheckFindsPlantedBreaches tests the checker: each tree holds one file, and the message must
// name it and the rule.
func TestCheckFindsPlantedBreaches(t *testing.T) {
	const geth = "github.com/ethereum/go-ethereum"
	for _, c := range []struct {
		name    string
		file    string
		imports string
		want    string // "" = allowed
	}{
		{"rpc uses the ledger", "rpc/eth.go", "m/ledger", ""},
		{"rpc uses a package inside the ledger", "rpc/eth.go", "m/ledger/txpool", ""},
		{"ledger knows rpc", "ledger/apply.go", "m/rpc", "imports rpc, but ledger imports only vm, consensus, contracts"},
		{"ledger's test knows rpc", "ledger/apply_test.go", "m/rpc", "imports rpc, but ledger imports only vm, consensus, contracts"},
		{"vm knows the ledger", "vm/run.go", "m/ledger", "but vm imports only contracts"},
		{"vm knows the log", "vm/run.go", "m/consensus", "but vm imports only contracts"},
		{"rpc reaches past the ledger", "rpc/eth.go", "m/contracts/bindings/token", "but rpc imports only ledger, vm, consensus"},
		{"contracts know the vm", "contracts/genesis.go", "m/vm", "but contracts imports no other room"},
		{"consensus knows the ledger", "consensus/log.go", "m/ledger", "but consensus imports no other room"},
		{"a room inside consensus knows the ledger", "consensus/view/player.go", "m/ledger", "but consensus imports no other room"},
		{"ledger names an engine", "ledger/open.go", "m/consensus/local", "only cmd/ledgerd and tests import an engine"},
		{"rpc names an engine", "rpc/open.go", "m/consensus/raft", "only cmd/ledgerd and tests import an engine"},
		{"the log names an engine", "consensus/open.go", "m/consensus/local", "only cmd/ledgerd and tests import an engine"},
		{"an engine inside an engine", "consensus/raft/open.go", "m/consensus/local", "only cmd/ledgerd and tests import an engine"},
		{"an engine's inner package counts as the engine", "ledger/open.go", "m/consensus/comet/wal", "only cmd/ledgerd and tests import an engine"},
		{"a test names an engine", "ledger/open_test.go", "m/consensus/local", ""},
		{"the command names an engine", "cmd/ledgerd/main.go", "m/consensus/comet", ""},
		{"an engine uses the log", "consensus/raft/open.go", "m/consensus", ""},
		{"an engine's test uses the suite", "consensus/raft/open_test.go", "m/consensus/logtest", ""},
		{"an engine ships the suite", "consensus/raft/open.go", "m/consensus/logtest", "which only tests may import"},
		{"the command is imported", "rpc/open.go", "m/cmd/ledgerd/internal/config", "but rpc imports only"},
		{"a test room is imported", "ledger/open.go", "m/test/crash", "which only tests may import"},
		{"consensus knows go-ethereum", "consensus/types.go", geth + "/common", "consensus knows nothing of the EVM"},
		{"an engine knows go-ethereum", "consensus/comet/types.go", geth + "/rlp", "consensus knows nothing of the EVM"},
		{"a test of consensus knows go-ethereum", "consensus/types_test.go", geth, "consensus knows nothing of the EVM"},
		{"the ledger knows go-ethereum", "ledger/types.go", geth + "/common", ""},
		{"a name that only begins alike", "consensus/types.go", geth + "-fork/common", ""},
		{"the log knows CometBFT", "consensus/types.go", "github.com/cometbft/cometbft/types", "a consensus library stays in the engine"},
		{"the wrong engine knows CometBFT", "consensus/raft/types.go", "github.com/cometbft/cometbft/types", "a consensus library stays in the engine"},
		{"CometBFT's engine knows it", "consensus/comet/types.go", "github.com/cometbft/cometbft/types", ""},
		{"raft's engine knows it", "consensus/raft/types.go", "go.etcd.io/raft/v3", ""},
		{"a package at the top", "main.go", "fmt", "outside of every room"},
		{"a second command", "cmd/tool/main.go", "fmt", "outside of every room"},
		{"a folder at the top", "util/strings.go", "fmt", "not one of the folders"},
		{"an import of what is no room", "rpc/open.go", "m/util", "which is outside of every room"},
		{"test data is not code", "ledger/testdata/bad.go", "m/rpc", ""},
		{"fetched packages are not ours", "contracts/node_modules/x/bad.go", "m/rpc", ""},
		{"a file behind a build tag", "ledger/plan9.go", "m/rpc", "but ledger imports only"},
	} {
		t.Run(c.name, func(t *testing.T) {
			source := "//go:build plan9\n\npackage p\n\nimport (\n\t\"errors\"\n\tx \"" + c.imports + "\"\n)\n"
			got, err := Check(fstest.MapFS{c.file: {Data: []byte(source)}}, "m")
			if err != nil {
				t.Fatal(err)
			}
			if c.want == "" {
				if len(got) != 0 {
					t.Fatalf("allowed, but reported: %v", got)
				}
				return
			}
			if len(got) != 1 {
				t.Fatalf("%d violations reported, want 1: %v", len(got), got)
			}
			if !strings.HasPrefix(c.file, got[0].File) || !strings.Contains(got[0].String(), c.want) {
				t.Fatalf("reported %q, want it to name %s and to say %q", got[0], c.file, c.want)
			}
		})
	}
}

// TestCheckDoesNotPassWhatItCannotRead: a file that does not parse is an error, not an absence.
func TestCheckDoesNotPassWhatItCannotRead(t *testing.T) {
	if _, err := Check(fstest.MapFS{"rpc/x.go": {Data: []byte("package p; import m/ledger")}}, "m"); err == nil {
		t.Fatal("a file that does not parse was passed")
	}
}

// repository returns the folder of go.mod above this test, and the module path in it.
func repository(t *testing.T) (root, module string) {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil {
			for line := range strings.Lines(string(text)) {
				if name, ok := strings.CutPrefix(line, "module "); ok {
					return dir, strings.TrimSpace(name)
				}
			}
			t.Fatalf("%s/go.mod names no module", dir)
		}
		if filepath.Dir(dir) == dir {
			t.Fatal("no go.mod above the test")
		}
		dir = filepath.Dir(dir)
	}
}
