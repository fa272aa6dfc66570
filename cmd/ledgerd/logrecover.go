package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"ledgerd/cmd/ledgerd/internal/node"
	"ledgerd/cmd/ledgerd/internal/recovery"
	"ledgerd/cmd/ledgerd/internal/request"
	"ledgerd/consensus"
)

func (c console) logRecover() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "recover",
		Short: "Go on with a log whose members have lost their quorum for good",
		Long: `For a last resort: so many members of the log's last segment are gone for good that it can never order anything again, not even
its own end. Its administrators then say where it ended, which is what the longest log among the survivors holds, and who goes on.
What was acknowledged and is on no survivor is lost.

The nodes are stopped. On each survivor, ` + "`status`" + ` writes down what it holds; ` + "`propose`" + ` makes a recovery of these;
administrators sign it with ` + "`ledgerd keys sign`" + `; and ` + "`apply`" + ` takes it on each disk, with nothing changed before --yes.
A node that holds less may also just be started once another one has taken it. One that holds more refuses to run (exit code 79)
until it is applied there, which cuts off what is not part of the log any more, and keeps it in a file.

The runbook is in docs/operations.md.`,
		Example: `  ledgerd log recover status --home ./node3 --json > node3.json
  ledgerd log recover propose --status node3.json --out recovery.json
  ledgerd keys sign recovery.json --key admin.key --out admin.sig.json
  ledgerd log recover apply --home ./node3 recovery.json --sig admin.sig.json --yes`,
	}
	cmd.AddCommand(c.recoverStatus(), c.recoverPropose(), c.recoverApply())
	return cmd
}

func (c console) recoverStatus() *cobra.Command {
	var dir string
	var asJSON bool
	var at []uint
	cmd := &cobra.Command{
		Use:   "status --home DIR",
		Short: "Say what a stopped node holds of the log",
		Long: `Says what a stopped node holds of the log. With --json it is what ` + "`propose`" + ` reads: the chain of segments, and digests of the log
at its last LSNs and further and further apart before.`,
		Example: "  ledgerd log recover status --home ./node --json > node.json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts, err := c.stoppedNode(dir)
			if err != nil {
				return err
			}
			var lsns []consensus.LSN
			for _, n := range at {
				lsns = append(lsns, consensus.LSN(n))
			}
			s, err := node.RecoveryStatus(cmd.Context(), opts, lsns)
			if err != nil {
				return err
			}
			last := s.Segments[len(s.Segments)-1]
			return c.print(asJSON, s, func(w io.Writer) {
				fmt.Fprintf(w, "network  %v\nnode     %x\nepoch    %d (%s, members %v)\nbase     %d\ntail     %d\ntrimmed  %d\ndigest   %v\nvouched  %v\npending  %v\n",
					s.Network, []byte(s.NodeKey), last.Epoch, last.Engine, last.Members, last.Base, s.Tail, s.Trimmed, s.Digest, s.Vouched, s.Pending != "")
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, for `propose`")
	cmd.Flags().UintSliceVar(&at, "at", nil, "LSN whose digest is given too; may be repeated")
	homeFlag(cmd, &dir)
	return cmd
}

// recoverFlags are those of `ledgerd log recover propose`.
type recoverFlags struct {
	reconfigureFlags
	statuses []string
}

func (c console) recoverPropose() *cobra.Command {
	var f recoverFlags
	cmd := &cobra.Command{
		Use:   "propose --status FILE",
		Short: "Make a recovery of what the survivors hold",
		Long: `Makes a recovery file of the status of each survivor: the longest log is taken over, and every other one must be a beginning of it.
The members are those of the dead segment that survive, with their engine, unless flags say otherwise. It changes nothing; it says
what may be lost, and which old members have to be fenced first.`,
		Example: `  ledgerd log recover propose --status node3.json --out recovery.json
  ledgerd log recover propose --status a.json --status b.json --members 2,3 --out recovery.json`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return c.runPropose(f) },
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&f.statuses, "status", nil, "file of `ledgerd log recover status --json`, one for each survivor; repeated (required)")
	flags.StringVar(&f.out, "out", "", "write the recovery to this file, for administrators to sign")
	flags.BoolVar(&f.json, "json", false, "print JSON")
	flags.StringVar(&f.engine, "engine", "", "engine of the next segment")
	flags.StringVar(&f.members, "members", "", "ids of members of any segment, such as 1,2,5; or a JSON file: [{\"nodeKey\": …, \"peerAddress\": …}, …]")
	flags.StringArrayVar(&f.add, "add", nil, "node that becomes a member, KEY@HOST:PORT; may be repeated")
	flags.StringArrayVar(&f.params, "param", nil, "parameter of the engine, NAME=VALUE; may be repeated")
	flags.StringArrayVar(&f.admins, "admin", nil, "public key of an administrator; those named take the place of all before; may be repeated")
	flags.IntVar(&f.threshold, "threshold", 0, "how many administrators have to sign")
	return cmd
}

func (c console) runPropose(f recoverFlags) error {
	if len(f.statuses) == 0 {
		return usagef("--status is missing; see `ledgerd log recover propose --help`")
	}
	change, err := f.change()
	if err != nil {
		return usageError{err}
	}
	var survivors []recovery.Status
	for _, path := range f.statuses {
		text, err := os.ReadFile(path)
		if err != nil {
			return usageError{err}
		}
		s, err := recovery.DecodeStatus(text)
		if err != nil {
			return usagef("status file %s: %w", path, err)
		}
		survivors = append(survivors, s)
	}
	p, err := recovery.Propose(survivors, change, node.Faults)
	if err != nil {
		return err
	}
	if f.out != "" {
		if err := writeNew(f.out, request.EncodeRecovery(p.Recovery)); err != nil {
			return err
		}
	}
	lines := request.DescribeRecovery(p.Recovery)
	for _, text := range p.Warnings {
		lines = append(lines, request.Line{About: "warning", Text: text})
	}
	form := struct {
		Recovery string   `json:"recovery"`
		File     string   `json:"file,omitempty"`
		Asks     []string `json:"asks"`
		Warnings []string `json:"warnings"`
	}{p.Hash().String(), f.out, nil, p.Warnings}
	for _, l := range request.DescribeRecovery(p.Recovery) {
		form.Asks = append(form.Asks, l.String())
	}
	return c.print(f.json, form, func(w io.Writer) { printLines(w, lines) })
}

// readRecovery reads a recovery file. It is the command line that is wrong if that fails.
func readRecovery(path string) (consensus.Recovery, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return consensus.Recovery{}, usageError{err}
	}
	r, err := request.DecodeRecovery(text)
	if err != nil {
		return consensus.Recovery{}, usagef("recovery file %s: %w", path, err)
	}
	return r, nil
}

func (c console) recoverApply() *cobra.Command {
	var dir string
	var signatures []string
	var yes, vouch, asJSON bool
	cmd := &cobra.Command{
		Use:   "apply --home DIR RECOVERY --sig FILE",
		Short: "Take a signed recovery on a stopped node",
		Long: `Says what a recovery does to a stopped node, and with --yes does it. Entries that are not part of the log any more go into a file
beside the log; a ledger that has applied them is moved aside, and made anew from the log when the node starts. It may be repeated.`,
		Example: `  ledgerd log recover apply --home ./node recovery.json --sig a.sig.json --sig b.sig.json
  ledgerd log recover apply --home ./node recovery.json --sig a.sig.json --sig b.sig.json --yes`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r := consensus.SignedRecovery{}
			var err error
			if r.Recovery, err = readRecovery(args[0]); err != nil {
				return err
			}
			if r.Signatures, err = readSignatures(r.Recovery, signatures); err != nil {
				return err
			}
			opts, err := c.stoppedNode(dir)
			if err != nil {
				return err
			}
			done, err := node.Recover(cmd.Context(), opts, r, vouch, !yes)
			if err != nil {
				return err
			}
			return c.printRecovered(asJSON, done, r.Recovery, yes)
		},
	}
	cmd.Flags().StringArrayVar(&signatures, "sig", nil, "file with a signature over the recovery; may be repeated")
	cmd.Flags().BoolVar(&yes, "yes", false, "do it")
	cmd.Flags().BoolVar(&vouch, "vouch", false, "this node has not taken this recovery on another disk, and may vote; for one that was no member, or whose disk was filled anew")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	homeFlag(cmd, &dir)
	return cmd
}

func (c console) printRecovered(asJSON bool, done node.Recovered, r consensus.Recovery, yes bool) error {
	form := struct {
		Done      bool            `json:"done"`
		Epoch     consensus.Epoch `json:"epoch"` // that begins
		Base      consensus.LSN   `json:"base"`
		Held      consensus.LSN   `json:"held"` // the first LSN that was not held
		Cut       uint64          `json:"cut"`  // entries
		File      string          `json:"file,omitempty"`
		Segments  int             `json:"segments"` // that leave the chain
		Pending   bool            `json:"pending"`  // the node has to fetch entries first
		Salvaged  bool            `json:"salvaged,omitempty"`
		Ledger    string          `json:"ledger,omitempty"`
		Snapshots []string        `json:"snapshots,omitempty"`
		Vouched   bool            `json:"vouched"`
	}{yes || done.Done, r.Epoch, r.Base, done.Held, uint64(done.Held - done.Cut), done.File, len(done.Segments), done.Pending, done.Salvaged, done.Ledger, done.Snapshots, done.Vouched}
	return c.print(asJSON, form, func(w io.Writer) {
		lines := []request.Line{{About: "log", Text: fmt.Sprintf("held up to lsn %d; epoch %d ends after %d, and epoch %d begins", done.Held-1, r.Epoch-1, r.Base-1, r.Epoch)}}
		add := func(about, format string, args ...any) {
			lines = append(lines, request.Line{About: about, Text: fmt.Sprintf(format, args...)})
		}
		switch {
		case done.Done && !done.Salvaged:
			add("nothing to do", "the recovery has been applied")
		case form.Cut > 0:
			add("cut off", "%d entries, lsn %d to %d, kept in %s", form.Cut, done.Cut, done.Held-1, done.File)
		}
		for _, seg := range done.Segments {
			add("leaves", "epoch %d (%s), which began at lsn %d", seg.Epoch, seg.Spec.Engine, seg.Base)
		}
		if done.Salvaged {
			add("salvaged", "the entries up to lsn %d are in this node's raft log, and are applied", r.Base-1)
		}
		if done.Pending {
			add("fetch", "the entries up to lsn %d are taken from the other nodes, by `ledgerd start`", r.Base-1)
		}
		if done.Ledger != "" {
			add("ledger", "had applied lsn %d; moved to %s, and made anew by `ledgerd start`", done.Applied, done.Ledger)
		}
		for _, name := range done.Snapshots {
			add("snapshot", "%s is of another log, and gets the ending .cut", name)
		}
		if !done.Vouched {
			add("observer", "this disk does not vote in epoch %d; see --vouch", r.Epoch)
		}
		if !yes && (!done.Done || done.Salvaged) {
			add("nothing done", "add --yes to do it")
		}
		printLines(w, lines)
	})
}
