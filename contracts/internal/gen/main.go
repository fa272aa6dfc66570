// Command gen writes the Go bindings of the contracts, one package each, from the compiler's artifacts. It is run by
// `go generate` in the contracts directory.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/ethereum/go-ethereum/accounts/abi/abigen"
)

// bound names the contracts that Go code talks to.
var bound = []string{"Box", "Factory", "Permissions", "Token"}

func main() {
	if err := run("."); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(dir string) error {
	for _, contract := range bound {
		code, err := generate(dir, contract)
		if err != nil {
			return err
		}
		file := bindingFile(dir, contract)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, code, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func bindingFile(dir, contract string) string {
	pkg := strings.ToLower(contract)
	return filepath.Join(dir, "bindings", pkg, pkg+".go")
}

// generate returns the binding of contract, whose artifact is below dir. The second generation of bindings packs and
// unpacks without a backend, so that they serve tests on a bare EVM and clients over RPC alike.
func generate(dir, contract string) ([]byte, error) {
	raw, err := os.ReadFile(filepath.Join(dir, "artifacts", contract+".json"))
	if err != nil {
		return nil, err
	}
	var artifact struct {
		ABI      json.RawMessage `json:"abi"`
		Bytecode string          `json:"bytecode"`
	}
	if err := json.Unmarshal(raw, &artifact); err != nil {
		return nil, fmt.Errorf("artifact of %s: %w", contract, err)
	}
	code, err := abigen.BindV2([]string{contract}, []string{string(artifact.ABI)}, []string{artifact.Bytecode},
		strings.ToLower(contract), nil, nil)
	if err != nil {
		return nil, fmt.Errorf("bind %s: %w", contract, err)
	}
	return []byte(code), nil
}
