package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"ledgerd/cmd/ledgerd/internal/home"
	"ledgerd/cmd/ledgerd/internal/node"
)

func (c console) snapshot() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "snapshot",
		Short: "Make a snapshot of a stopped node, or a node of a snapshot",
		Long: `A snapshot is one file that stands for the log up to an entry: the ledger with all blocks and the newest state, and what it takes
to go on with the log from there. A node that joins begins with it instead of playing the log from its beginning. Old states are
not in it: on the node that is restored, they begin with the snapshot.`,
		Example: `  ledgerd snapshot create --home ./node --out node.snapshot
  ledgerd snapshot restore --home ./other node.snapshot`,
	}
	cmd.AddCommand(c.snapshotCreate(), c.snapshotRestore())
	return cmd
}

func (c console) snapshotCreate() *cobra.Command {
	var dir, out string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "create --home DIR",
		Short: "Make a snapshot of a stopped node",
		Long: `Writes what the node's ledger has applied to a file, which must not exist yet; by default among the snapshots that the node keeps,
in DIR/snapshots, of which the newest snapshot.keep (config.toml) remain.

A running node makes snapshots itself if snapshot.every says so.`,
		Example: `  ledgerd snapshot create --home ./node
  ledgerd snapshot create --home ./node --out /backup/node.snapshot --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts, err := c.stoppedNode(dir)
			if err != nil {
				return err
			}
			bar := newProgress(c.stderr, "writing")
			made, err := node.MakeSnapshot(cmd.Context(), opts, out, bar.count)
			bar.end()
			if err != nil {
				return err
			}
			return c.print(asJSON, made, func(w io.Writer) {
				fmt.Fprintf(w, "file    %s\nlsn     %d\nblock   %d\nhead    %v\nbytes   %d\nsha256  %v\n",
					made.File, made.LSN, made.Block, made.Head, made.Size, made.SHA256)
			})
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "file to write; default: a new one in DIR/snapshots")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	homeFlag(cmd, &dir)
	return cmd
}

func (c console) snapshotRestore() *cobra.Command {
	var dir string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "restore --home DIR FILE",
		Short: "Make the data of a node of a snapshot",
		Long: `Fills a home that has a config.toml, a genesis.json and a node.key but no data, as ` + "`ledgerd init`" + ` leaves it, from a snapshot.
All of the file is verified before any of it is used: its sum; the chain of the log's segments, by the signatures of their
administrators, from the genesis on; the accounts, slots and codes, by the state root of the head block; and that log and ledger
fit together. That the head itself is the network's is for you to compare: it is printed, and so it was when the snapshot was made.

A restored log does not vote: where the log has members, the node follows it as an observer until a reconfiguration makes it a
member. Where one node orders alone, it goes on alone from the snapshot; what was ordered after it elsewhere is not in it.`,
		Example: "  ledgerd snapshot restore --home ./node /backup/node.snapshot",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts, err := c.stoppedNode(dir)
			if err != nil {
				return err
			}
			if _, err := os.Stat(args[0]); err != nil {
				return usageError{err}
			}
			bar, doing := &progress{}, ""
			restored, err := node.Restore(cmd.Context(), opts, args[0], func(what string, done, total uint64) {
				if what != doing {
					bar.end()
					bar, doing = newProgress(c.stderr, what), what
				}
				bar.set(done, total)
			})
			bar.end()
			if err != nil {
				return err
			}
			return c.print(asJSON, restored, func(w io.Writer) {
				fmt.Fprintf(w, "network id  %v\nlsn         %d\nepoch       %d\nblock       %d\nhead        %v\n",
					restored.Network, restored.LSN, restored.Epoch, restored.Block, restored.Head)
				if restored.Observer {
					fmt.Fprintln(w, "observer    this node does not vote until a reconfiguration makes it a member")
				}
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	homeFlag(cmd, &dir)
	return cmd
}

// stoppedNode returns the options with which the commands open the home of a node that does not run.
func (c console) stoppedNode(dir string) (node.Options, error) {
	settings, g, err := loadHome(home.Home(dir), c.getenv)
	if err != nil {
		return node.Options{}, err
	}
	logger, err := newLogger(c.stderr, settings.Log.Format, slog.LevelWarn.String())
	if err != nil {
		return node.Options{}, err
	}
	tuneCollector(settings, c.getenv)
	adoptLibraryLogs(logger, func(code exitCode) { os.Exit(int(code)) })
	return node.Options{Config: settings, Genesis: g, Home: home.Home(dir), Logger: logger, Fatal: die(logger)}, nil
}

// count draws how many bytes a command has come to that does not know how many it will be.
func (p *progress) count(bytes uint64) {
	now := time.Now()
	if p.w == nil || now.Sub(p.begin) < 2*time.Second || now.Sub(p.drawn) < 100*time.Millisecond {
		return
	}
	p.drawn, p.active = now, true
	fmt.Fprintf(p.w, "\r%s %d MiB", p.what, bytes>>20)
}
