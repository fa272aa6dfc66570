package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"ledgerd/cmd/ledgerd/internal/home"
	"ledgerd/ledger/genesis"
)

// command runs one command line in this process.
func command(t *testing.T, args ...string) (stdout, stderr string, code exitCode) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), console{&out, &errs, func(string) string { return "" }}, args)
	return out.String(), errs.String(), code
}

// networkID changes with every predeployed contract, and is tested where it is made.
var networkID = regexp.MustCompile(`[0-9a-f]{64}`)

// TestCommandLines plays testdata/cli: command lines that need no running node, with what they print and their exit
// codes. $DIR stands for a folder that lasts through one file. -rewrite updates the files.
func TestCommandLines(t *testing.T) {
	datadriven.Walk(t, "testdata/cli", func(t *testing.T, path string) {
		dir := t.TempDir()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "write": // write file=NAME, with the content as input
				var name string
				d.ScanArgs(t, "file", &name)
				require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(d.Input), 0o600))
				return ""
			case "chmod":
				var name string
				var mode uint32
				d.ScanArgs(t, "file", &name)
				d.ScanArgs(t, "mode", &mode)
				require.NoError(t, os.Chmod(filepath.Join(dir, name), os.FileMode(mode)))
				return ""
			case "ledgerd": // with one argument a line
				var args []string
				for arg := range strings.Lines(d.Input) {
					args = append(args, strings.ReplaceAll(strings.TrimSpace(arg), "$DIR", dir))
				}
				stdout, stderr, code := command(t, args...)
				out := stdout
				if stderr != "" {
					out += "stderr: " + stderr
				}
				out = networkID.ReplaceAllString(strings.ReplaceAll(out, dir, "$DIR"), "$$NETWORK")
				return out + fmt.Sprintf("exit %d\n", code)
			}
			t.Fatalf("unknown directive %q", d.Cmd)
			return ""
		})
	})
}

// TestEveryCommandIsDocumented: each has a one-line description, an example, and --json where it prints data.
func TestEveryCommandIsDocumented(t *testing.T) {
	root := console{&bytes.Buffer{}, &bytes.Buffer{}, os.Getenv}.root()
	printsData := map[string]bool{
		"ledgerd version": true, "ledgerd init": true, "ledgerd testnet init": true, "ledgerd verify": true, "ledgerd snapshot create": true, "ledgerd snapshot restore": true,
		"ledgerd keys new": true, "ledgerd keys show": true, "ledgerd keys sign": true,
		"ledgerd log status": true, "ledgerd log segments": true, "ledgerd log members": true, "ledgerd log tail": true, "ledgerd log read": true,
		"ledgerd log reconfigure": true, "ledgerd log recover status": true, "ledgerd log recover propose": true, "ledgerd log recover apply": true,
	}
	var visit func(*cobra.Command)
	visit = func(cmd *cobra.Command) {
		path := cmd.CommandPath()
		require.NotEmpty(t, cmd.Short, path)
		require.NotEmpty(t, cmd.Example, path)
		require.Contains(t, cmd.Example, "ledgerd", path)
		if printsData[path] {
			require.NotNil(t, cmd.Flags().Lookup("json"), path)
			delete(printsData, path)
		}
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit(root)
	require.Empty(t, printsData, "commands that are gone")
}

// TestExamplesParse runs the flag parser of each command over its own examples, so that no example has a flag that is
// not there.
func TestExamplesParse(t *testing.T) {
	var visit func(path []string)
	visit = func(path []string) {
		root := console{&bytes.Buffer{}, &bytes.Buffer{}, os.Getenv}.root()
		cmd, _, err := root.Find(path)
		require.NoError(t, err)
		for line := range strings.Lines(cmd.Example) {
			line, _, _ = strings.Cut(strings.TrimSpace(line), "#")
			_, line, ok := strings.Cut(line, "ledgerd ")
			require.True(t, ok, line)
			for _, end := range []string{"|", ">", "2>"} {
				line, _, _ = strings.Cut(line, " "+end)
			}
			found, rest, err := console{&bytes.Buffer{}, &bytes.Buffer{}, os.Getenv}.root().Find(strings.Fields(line))
			require.NoError(t, err, line)
			require.NoError(t, found.ParseFlags(rest), line)
			require.NoError(t, found.ValidateArgs(found.Flags().Args()), line)
		}
		for _, sub := range cmd.Commands() {
			visit(append(path[:len(path):len(path)], sub.Name()))
		}
	}
	visit(nil)
}

func TestExitCodes(t *testing.T) {
	seen := map[exitCode]bool{}
	for _, row := range exitCodes {
		require.False(t, seen[row.code], "code %d is there twice", row.code)
		seen[row.code] = true
	}
	require.Equal(t, exitOK, codeOf(nil))
	require.Equal(t, exitError, codeOf(context.Canceled))
	require.Equal(t, exitUsage, codeOf(fmt.Errorf("a: %w", usagef("b"))))
	require.Equal(t, exitInUse, codeOf(fmt.Errorf("a: %w", home.ErrInUse)))
}

func TestVersionJSON(t *testing.T) {
	out, _, code := command(t, "version", "--json")
	require.Equal(t, exitOK, code)
	var v versionInfo
	require.NoError(t, json.Unmarshal([]byte(out), &v))
	require.True(t, strings.HasPrefix(v.Version, "v"+release), v.Version)
	require.NotEmpty(t, v.Go)
}

// TestInitMakesAStartableHome: what init writes is read back without a complaint, and describes one and the same network.
func TestInitMakesAStartableHome(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "node")
	out, errs, code := command(t, "init", "--home", dir, "--chain-id", "4242", "--json")
	require.Equal(t, exitOK, code, errs)
	var answer struct{ NetworkID string }
	require.NoError(t, json.Unmarshal([]byte(out), &answer))

	settings, g, err := loadHome(home.Home(dir), nil)
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:8545", settings.RPC.Listen)
	require.Equal(t, uint64(4242), g.Config.ChainID.Uint64())
	id, err := g.NetworkID()
	require.NoError(t, err)
	require.Equal(t, answer.NetworkID, id.String())

	// A genesis file that init has written makes the same network again.
	again := filepath.Join(t.TempDir(), "node")
	_, errs, code = command(t, "init", "--home", again, "--genesis", home.Home(dir).Genesis())
	require.Equal(t, exitOK, code, errs)
	text, err := os.ReadFile(home.Home(again).Genesis())
	require.NoError(t, err)
	g, err = genesis.Parse(text)
	require.NoError(t, err)
	second, err := g.NetworkID()
	require.NoError(t, err)
	require.Equal(t, id, second)
}
