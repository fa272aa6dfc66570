package main

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"
	gethrpc "github.com/ethereum/go-ethereum/rpc"
	"github.com/spf13/cobra"

	"ledgerd/cmd/ledgerd/internal/home"
	"ledgerd/consensus"
	"ledgerd/rpc"
)

// logFlags are the flags that all `ledgerd log` commands have.
type logFlags struct {
	url     string
	secret  string // file; "": none
	json    bool
	timeout time.Duration
}

func (f *logFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.url, "rpc", "http://127.0.0.1:8545", "URL of the node, http or ws")
	secretFlag(cmd, &f.secret)
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	cmd.Flags().DurationVar(&f.timeout, "timeout", 10*time.Second, "how long to wait for the node, per request")
}

// secretFlag adds --jwt-secret, for nodes that ask for tokens.
func secretFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "jwt-secret", "", "file with the node's rpc.jwt_secret, if it has one")
}

// logClient asks a node.
type logClient struct {
	rpc     *gethrpc.Client
	timeout time.Duration
}

func (f *logFlags) dial(ctx context.Context) (*logClient, error) {
	if err := validURL(f.url); err != nil {
		return nil, err
	}
	return dialLog(ctx, f.url, f.secret, f.timeout)
}

func validURL(url string) error {
	if !strings.Contains(url, "://") {
		return usagef("--rpc %q: want a URL, such as http://127.0.0.1:8545", url)
	}
	return nil
}

func dialLog(ctx context.Context, url, secretFile string, timeout time.Duration) (*logClient, error) {
	var opts []gethrpc.ClientOption
	if secretFile != "" {
		secret, err := home.ReadJWTSecret(secretFile)
		if err != nil {
			return nil, err
		}
		opts = append(opts, gethrpc.WithHTTPAuth(rpc.Bearer(secret)))
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	client, err := gethrpc.DialOptions(ctx, url, opts...)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", url, err)
	}
	return &logClient{client, timeout}, nil
}

// call asks for one answer and decodes it into result.
func (c *logClient) call(ctx context.Context, result any, method string, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	if err := c.rpc.CallContext(ctx, result, method, args...); err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	return nil
}

// chain asks for the chain of segments: what a request for the next one goes by.
func (c *logClient) chain(ctx context.Context) ([]consensus.Segment, error) {
	var answers []logSegmentAnswer
	if err := c.call(ctx, &answers, "log_segments"); err != nil {
		return nil, err
	}
	var chain []consensus.Segment
	for _, a := range answers {
		seg, err := a.segment()
		if err != nil {
			return nil, fmt.Errorf("log_segments: the node's answer is not what this version expects: %w", err)
		}
		chain = append(chain, seg)
	}
	if len(chain) == 0 {
		return nil, errors.New("log_segments: the node tells of no segment")
	}
	return chain, nil
}

// answer asks for one answer, prints it as it came for --json, and otherwise decodes it for text to write.
func answer[T any](c console, cmd *cobra.Command, f *logFlags, method string, text func(io.Writer, T)) error {
	client, err := f.dial(cmd.Context())
	if err != nil {
		return err
	}
	defer client.rpc.Close()
	var raw json.RawMessage
	if err := client.call(cmd.Context(), &raw, method); err != nil {
		return err
	}
	var v T
	if err := json.Unmarshal(raw, &v); err != nil {
		return fmt.Errorf("%s: the node's answer is not what this version expects: %w", method, err)
	}
	return c.print(f.json, raw, func(w io.Writer) { text(w, v) })
}

func (c console) log() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "log",
		Short: "Look at the shared log of a running node, and reconfigure it",
		Example: `  ledgerd log status --rpc http://127.0.0.1:8545
  ledgerd log reconfigure --remove 2 --key admin.key
  ledgerd log read --from 1 --limit 10 --json`,
	}
	cmd.AddCommand(c.logStatus(), c.logSegments(), c.logMembers(), c.logTail(), c.logRead(), c.logReconfigure(), c.logRecover())
	return cmd
}

// The answers of the log_ namespace, as far as they are shown as text. Positions are quantities.
type (
	logStatusAnswer struct {
		Network   hexutil.Bytes
		Epoch     hexutil.Uint64
		Base      hexutil.Uint64
		Engine    string
		Role      string
		Tail      hexutil.Uint64
		Trimmed   hexutil.Uint64
		Applied   hexutil.Uint64
		HeadBlock hexutil.Uint64
		HeadHash  hexutil.Bytes
		Loglet    struct {
			State  string
			Detail map[string]string
		}
		Prepared []hexutil.Bytes
		Dissent  []struct{ Member, LSN hexutil.Uint64 }
		Notice   string
		Problem  string
	}
	logSegmentAnswer struct {
		Network   hexutil.Bytes
		Epoch     hexutil.Uint64
		Base      hexutil.Uint64
		End       *hexutil.Uint64
		Engine    string
		Faults    string
		Params    map[string]string
		Members   []logMemberAnswer
		Admins    []hexutil.Bytes
		Threshold int
		Ledger    hexutil.Bytes
	}
	logMemberAnswer struct {
		ID             hexutil.Uint64
		NodeKey        hexutil.Bytes
		ConsensusKey   hexutil.Bytes
		PeerAddress    string
		CometAddresses [2]string
	}
	logMemberStatusAnswer struct {
		logMemberAnswer
		Epoch     *hexutil.Uint64
		InSegment bool
		Reachable bool
		MayStop   bool
	}
	logEntryAnswer struct {
		LSN            hexutil.Uint64
		Epoch          hexutil.Uint64
		MilliTimestamp hexutil.Uint64
		App            string
		Payload        hexutil.Bytes
		Digest         hexutil.Bytes
	}
)

// segment is the answer as a request goes by it. It is checked as a spec is, since somebody is going to sign what follows from it.
func (a logSegmentAnswer) segment() (consensus.Segment, error) {
	seg := consensus.Segment{
		Epoch: consensus.Epoch(a.Epoch), Base: consensus.LSN(a.Base),
		Spec: consensus.Spec{Engine: a.Engine, Params: a.Params, Threshold: a.Threshold, Ledger: a.Ledger},
	}
	if len(a.Network) != len(seg.Network) {
		return seg, fmt.Errorf("a network id of %d bytes", len(a.Network))
	}
	copy(seg.Network[:], a.Network)
	switch a.Faults {
	case consensus.CrashFaults.String():
	case consensus.ByzantineFaults.String():
		seg.Spec.Faults = consensus.ByzantineFaults
	default:
		return seg, fmt.Errorf("unknown faults %q", a.Faults)
	}
	for _, m := range a.Members {
		seg.Spec.Members = append(seg.Spec.Members, consensus.Member{
			ID: uint64(m.ID), NodeKey: ed25519.PublicKey(m.NodeKey), ConsensusKey: ed25519.PublicKey(m.ConsensusKey),
			PeerAddress: m.PeerAddress, CometAddresses: m.CometAddresses,
		})
	}
	for _, k := range a.Admins {
		seg.Spec.Admins = append(seg.Spec.Admins, ed25519.PublicKey(k))
	}
	return seg, seg.Spec.Validate()
}

func (c console) logStatus() *cobra.Command {
	var f logFlags
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how the log, its engine and the ledger are",
		Long: `Shows the log as the asked node sees it; where its engine has members, also who leads, what makes a quorum and who is missing
from it, by how many entries each member is behind the one that has applied most (BEHIND), and how many it has yet to execute.`,
		Example: "  ledgerd log status --rpc http://127.0.0.1:8545 --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return answer(c, cmd, &f, "log_status", func(w io.Writer, s logStatusAnswer) {
				t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				fmt.Fprintf(t, "network\t%x\n", []byte(s.Network))
				fmt.Fprintf(t, "engine\t%s (%s)\n", s.Engine, s.Loglet.State)
				fmt.Fprintf(t, "epoch\t%d, from lsn %d; this node %s\n", s.Epoch, s.Base, s.Role)
				for _, identity := range s.Prepared {
					fmt.Fprintf(t, "prepared\t%x\n", []byte(identity))
				}
				fmt.Fprintf(t, "tail\t%d\n", s.Tail)
				fmt.Fprintf(t, "trimmed\t%d\n", s.Trimmed)
				fmt.Fprintf(t, "applied\t%d\n", s.Applied)
				fmt.Fprintf(t, "head\tblock %d %s\n", s.HeadBlock, s.HeadHash)
				if s.Notice != "" {
					fmt.Fprintf(t, "notice\t%s\n", s.Notice)
				}
				for _, d := range s.Dissent {
					fmt.Fprintf(t, "dissent\tmember %d claims another history at lsn %d\n", d.Member, d.LSN)
				}
				if s.Problem != "" {
					fmt.Fprintf(t, "problem\t%s\n", s.Problem)
				}
				members := membersOf(s.Loglet.Detail)
				printQuorum(t, s.Loglet.Detail, members)
				t.Flush()
				printMembers(w, s.Loglet.Detail, members)
			})
		},
	}
	f.add(cmd)
	return cmd
}

// memberState is what the asked node knows of a member.
type memberState struct {
	id      uint64
	state   string        // present; "missing": not heard of; "unknown": the leader could not be asked
	applied uint64        // position of the engine
	lag     uint64        // entries by which its application is behind its log
	clock   time.Duration // ahead of the leader's
}

const present = "present"

// membersOf reads the members out of a loglet's details, by id: "member.3" = "applied 17, lag 0, clock 1ms", or "height 17", or a word.
func membersOf(detail map[string]string) (members []memberState) {
	for key, value := range detail {
		number, ok := strings.CutPrefix(key, "member.")
		id, err := strconv.ParseUint(number, 10, 64)
		if !ok || err != nil {
			continue
		}
		m := memberState{id: id, state: value}
		var clock string
		if _, err = fmt.Sscanf(value, "applied %d, lag %d, clock %s", &m.applied, &m.lag, &clock); err == nil { // raft
			m.state = present
			m.clock, _ = time.ParseDuration(clock)
		} else if _, err = fmt.Sscanf(value, "height %d", &m.applied); err == nil { // comet
			m.state = present
		}
		members = append(members, m)
	}
	slices.SortFunc(members, func(a, b memberState) int { return cmp.Compare(a.id, b.id) })
	return members
}

// printQuorum says who leads and how many members it takes, for an engine that has members.
func printQuorum(w io.Writer, detail map[string]string, members []memberState) {
	if len(members) == 0 {
		return
	}
	if proposer, ok := detail["proposer"]; ok {
		fmt.Fprintf(w, "proposer\tmember %s, height %s, round %s\n", proposer, detail["height"], detail["round"])
	} else {
		fmt.Fprintf(w, "leader\t%s, term %s\n", leaderOf(detail), detail["term"])
	}
	if n := detail["evidence"]; n != "" && n != "0" {
		fmt.Fprintf(w, "evidence\t%s; the last: %s\n", n, detail["offender"])
	}
	states := make(map[string][]string)
	for _, m := range members {
		states[m.state] = append(states[m.state], fmt.Sprint(m.id))
	}
	fmt.Fprintf(w, "quorum\t%s of %d", detail["quorum"], len(members))
	for _, state := range slices.Sorted(maps.Keys(states)) { // missing, present, unknown
		fmt.Fprintf(w, "; %s: %s", state, strings.Join(states[state], ", "))
	}
	fmt.Fprintln(w)
}

func leaderOf(detail map[string]string) string {
	id := detail["leader"]
	switch {
	case id == "" || id == "0":
		return "none is known"
	case detail["role"] == "leader":
		return "member " + id + " (this node)"
	}
	return "member " + id
}

// printMembers says who is behind and by how much.
func printMembers(w io.Writer, detail map[string]string, members []memberState) {
	if len(members) == 0 {
		return
	}
	if _, ok := detail["proposer"]; ok {
		printHeights(w, members)
		return
	}
	leader := detail["leader"]
	var first uint64 // the most that anybody has applied
	for _, m := range members {
		first = max(first, m.applied)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "\nMEMBER\tSTATE\tBEHIND\tTO EXECUTE\tCLOCK\n")
	for _, m := range members {
		switch {
		case m.state != present:
			fmt.Fprintf(t, "%d\t%s\t-\t-\t-\n", m.id, m.state)
			continue
		case fmt.Sprint(m.id) == leader:
			m.state = "leads"
		default:
			m.state = "follows"
		}
		fmt.Fprintf(t, "%d\t%s\t%d\t%d\t%v\n", m.id, m.state, first-m.applied, m.lag, m.clock)
	}
	t.Flush()
}

// printHeights says the same where nobody leads.
func printHeights(w io.Writer, members []memberState) {
	var first uint64
	for _, m := range members {
		first = max(first, m.applied)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "\nMEMBER\tSTATE\tHEIGHT\tBEHIND\n")
	for _, m := range members {
		if m.state != present {
			fmt.Fprintf(t, "%d\t%s\t-\t-\n", m.id, m.state)
			continue
		}
		fmt.Fprintf(t, "%d\t%s\t%d\t%d\n", m.id, m.state, m.applied, first-m.applied)
	}
	t.Flush()
}

func (c console) logSegments() *cobra.Command {
	var f logFlags
	cmd := &cobra.Command{
		Use:     "segments",
		Short:   "Show the chain of segments, oldest first",
		Example: "  ledgerd log segments --rpc http://127.0.0.1:8545",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return answer(c, cmd, &f, "log_segments", func(w io.Writer, segments []logSegmentAnswer) {
				t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				fmt.Fprintf(t, "EPOCH\tENGINE\tFIRST LSN\tLAST LSN\tMEMBERS\n")
				for _, s := range segments {
					last := "-"
					if s.End != nil {
						last = fmt.Sprint(uint64(*s.End) - 1)
					}
					fmt.Fprintf(t, "%d\t%s\t%d\t%s\t%d\n", s.Epoch, s.Engine, s.Base, last, len(s.Members))
				}
				t.Flush()
			})
		},
	}
	f.add(cmd)
	return cmd
}

func (c console) logMembers() *cobra.Command {
	var f logFlags
	cmd := &cobra.Command{
		Use:   "members",
		Short: "Show who orders the log, and which former members may be turned off",
		Long: `Shows who is or was a member of the log, as the asked node reaches them now: the members of the last segment, and those of earlier
ones. The local engine may have none: its node orders alone.

  orders           a member of the last segment
  may be turned off  it is not, and a quorum of those who are has everything that came before
  still needed     it is not, but they have not, or cannot be asked: do not turn it off

EPOCH is the last one that a node knows; "-" means that it does not answer.`,
		Example: "  ledgerd log members --rpc http://127.0.0.1:8545 --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return answer(c, cmd, &f, "log_members", func(w io.Writer, members []logMemberStatusAnswer) {
				t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				fmt.Fprintf(t, "ID\tEPOCH\tSTATE\tADDRESS\tNODE KEY\n")
				for _, m := range members {
					epoch := "-"
					if m.Epoch != nil {
						epoch = fmt.Sprint(uint64(*m.Epoch))
					}
					fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%x\n", m.ID, epoch, m.state(), m.PeerAddress, []byte(m.NodeKey))
				}
				t.Flush()
			})
		},
	}
	f.add(cmd)
	return cmd
}

func (m logMemberStatusAnswer) state() string {
	switch {
	case m.InSegment:
		return "orders"
	case m.MayStop:
		return "may be turned off"
	}
	return "still needed"
}

func (c console) logTail() *cobra.Command {
	var f logFlags
	cmd := &cobra.Command{
		Use:     "tail",
		Short:   "Print the first unwritten LSN",
		Long:    "Prints the first unwritten LSN, not below anything that was acknowledged to anybody before.",
		Example: "  ledgerd log tail --rpc http://127.0.0.1:8545",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return answer(c, cmd, &f, "log_tail", func(w io.Writer, tail hexutil.Uint64) { fmt.Fprintf(w, "%d\n", tail) })
		},
	}
	f.add(cmd)
	return cmd
}

// readFlags are those of `ledgerd log read`.
type readFlags struct {
	logFlags
	from, to uint64
	limit    uint64
	payload  bool
}

func (c console) logRead() *cobra.Command {
	var f readFlags
	cmd := &cobra.Command{
		Use:   "read",
		Short: "Print entries of the log",
		Long: `Prints the entries from --from up to, not including, --to (default: the tail), at most --limit of them. With --json
there is one entry a line, payload included.`,
		Example: `  ledgerd log read --from 1 --limit 10
  ledgerd log read --from 100 --to 200 --json | jq .digest`,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.runLogRead(cmd.Context(), f) },
	}
	f.add(cmd)
	cmd.Flags().Uint64Var(&f.from, "from", 1, "first LSN")
	cmd.Flags().Uint64Var(&f.to, "to", 0, "LSN after the last; 0 is the tail")
	cmd.Flags().Uint64Var(&f.limit, "limit", 100, "how many entries; 0 is no limit")
	cmd.Flags().BoolVar(&f.payload, "payload", false, "print payloads as text output too")
	return cmd
}

// runLogRead reads in as many requests as the node's limits make it take.
func (c console) runLogRead(ctx context.Context, f readFlags) error {
	if f.from == 0 || f.to != 0 && f.to < f.from {
		return usagef("--from %d --to %d: LSNs start at 1, and the range must not be upside down", f.from, f.to)
	}
	client, err := f.dial(ctx)
	if err != nil {
		return err
	}
	defer client.rpc.Close()
	end := f.to
	if end == 0 {
		var tail hexutil.Uint64
		if err := client.call(ctx, &tail, "log_tail"); err != nil {
			return err
		}
		end = uint64(tail)
	}
	if f.limit > 0 && f.limit < math.MaxUint64-f.from {
		end = min(end, f.from+f.limit)
	}
	for next := f.from; next < end; {
		var entries []json.RawMessage
		if err := client.call(ctx, &entries, "log_read", hexutil.Uint64(next), hexutil.Uint64(end)); err != nil {
			return err
		}
		if len(entries) == 0 {
			return fmt.Errorf("log_read: the node gave no entry at lsn %d", next)
		}
		for _, raw := range entries {
			if err := c.printEntry(f, raw); err != nil {
				return err
			}
		}
		next += uint64(len(entries))
	}
	return nil
}

// printEntry writes one entry as a line.
func (c console) printEntry(f readFlags, raw json.RawMessage) error {
	if f.json {
		_, err := fmt.Fprintf(c.stdout, "%s\n", raw)
		return err
	}
	var e logEntryAnswer
	if err := json.Unmarshal(raw, &e); err != nil {
		return fmt.Errorf("log_read: the node's answer is not what this version expects: %w", err)
	}
	at := time.UnixMilli(int64(e.MilliTimestamp)).UTC().Format("2006-01-02T15:04:05.000Z")
	_, err := fmt.Fprintf(c.stdout, "lsn=%d epoch=%d time=%s app=%s bytes=%d digest=%x", e.LSN, e.Epoch, at, e.App, len(e.Payload), []byte(e.Digest))
	if f.payload {
		_, err = fmt.Fprintf(c.stdout, " payload=%s", hex.EncodeToString(e.Payload))
	}
	fmt.Fprintln(c.stdout)
	return err
}
