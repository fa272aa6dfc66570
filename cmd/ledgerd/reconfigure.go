package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/spf13/cobra"

	"ledgerd/cmd/ledgerd/internal/config"
	"ledgerd/cmd/ledgerd/internal/home"
	"ledgerd/cmd/ledgerd/internal/node"
	"ledgerd/cmd/ledgerd/internal/request"
	"ledgerd/consensus"
	"ledgerd/ledger/genesis"
)

// errNotReconfigured means that a request did not come true, and that nothing has happened.
var errNotReconfigured = errors.New("not reconfigured")

// reconfigureFlags are those of `ledgerd log reconfigure`.
type reconfigureFlags struct {
	urls    []string
	secret  string // file; "": none
	json    bool
	timeout time.Duration
	wait    time.Duration

	engine                        string
	members                       string
	remove, add                   []string
	params                        []string
	admins                        []string
	threshold                     int
	gasLimit, baseFee, coinbase   string
	expires                       uint64
	file, out                     string
	keys, signatures              []string
	dryRun                        bool
	shaped, signing, expiresGiven bool // which kinds of flags were given
}

// The flags that say what is to change, and those that sign.
var (
	shapingFlags = []string{"engine", "members", "remove", "add", "param", "admin", "threshold", "gas-limit", "base-fee", "coinbase"}
	signingFlags = []string{"key", "sig"}
)

func (c console) logReconfigure() *cobra.Command {
	var f reconfigureFlags
	cmd := &cobra.Command{
		Use:   "reconfigure",
		Short: "Change the engine, the members or the parameters of the log while it runs",
		Long: `Ends the last segment of the log and begins the next one, with what the flags change and all else as it is. The log takes
appends throughout. It prints a line for each stage:

  preparing    the next members get ready: they catch up, and compare their histories
  sealing      a quorum is ready; the end of the old segment is being ordered
  switching    it is ordered; the next segment is about to begin
  completing   the next segment orders ("switched")

and at the end: epoch=2 base=1042 gap=12.3ms switched complete. From then on members of the old segment that are not in the new one
may be turned off; ` + "`ledgerd log members`" + ` says which. The gap is the time in which the log ordered nothing.

The administrators of the last segment have to sign. One of them alone does it with --key. Several write the request to a file with
--out, sign that with ` + "`ledgerd keys sign`" + `, each where the key is, and one sends it with --request and --sig.

The attempt goes on at the node if this command ends, and on the other nodes once it is sealed. With several --rpc, the next one is
asked to take up where a node left off that has fallen silent. The same --request may be sent again, too. A request that was not
sealed has changed nothing.`,
		Example: `  ledgerd log reconfigure --add 3f0c…@10.0.0.4:9000 --key admin.key
  ledgerd log reconfigure --remove 2 --key admin.key --rpc http://10.0.0.1:8545 --rpc http://10.0.0.3:8545
  ledgerd log reconfigure --engine local --members 1 --key admin.key --dry-run
  ledgerd log reconfigure --gas-limit 60000000 --out req.json
  ledgerd log reconfigure --request req.json --sig a.json --sig b.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.shaped = slices.ContainsFunc(shapingFlags, cmd.Flags().Changed)
			f.signing = slices.ContainsFunc(signingFlags, cmd.Flags().Changed)
			f.expiresGiven = cmd.Flags().Changed("expires")
			return c.runReconfigure(cmd.Context(), f)
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&f.urls, "rpc", []string{"http://127.0.0.1:8545"}, "URL of a node; repeated, the others are asked when it falls silent")
	secretFlag(cmd, &f.secret)
	flags.BoolVar(&f.json, "json", false, "print one JSON object at the end")
	flags.DurationVar(&f.timeout, "timeout", 10*time.Second, "how long to wait for a node, per request")
	flags.DurationVar(&f.wait, "wait", 5*time.Minute, "how long to wait for the end")

	flags.StringVar(&f.engine, "engine", "", "engine: "+strings.Join(node.EngineNames(), ", "))
	flags.StringVar(&f.members, "members", "", "ids of members of any segment, such as 1,2,5; or a JSON file: [{\"nodeKey\": …, \"peerAddress\": …}, …]")
	flags.StringArrayVar(&f.remove, "remove", nil, "id of a member that is to go; may be repeated")
	flags.StringArrayVar(&f.add, "add", nil, "node that is to join, KEY@HOST:PORT; may be repeated")
	flags.StringArrayVar(&f.params, "param", nil, "parameter of the engine, NAME=VALUE; without a value it is taken away; may be repeated")
	flags.StringArrayVar(&f.admins, "admin", nil, "public key of an administrator; those named take the place of all before; may be repeated")
	flags.IntVar(&f.threshold, "threshold", 0, "how many administrators have to sign")
	flags.StringVar(&f.gasLimit, "gas-limit", "", "gas limit of a block")
	flags.StringVar(&f.baseFee, "base-fee", "", "base fee of every block, in wei")
	flags.StringVar(&f.coinbase, "coinbase", "", "address that is paid the tips")
	flags.Uint64Var(&f.expires, "expires", 100_000, "after how many more entries the request is void")

	flags.StringArrayVar(&f.keys, "key", nil, "file with an administrator's key, to sign with; may be repeated")
	flags.StringVar(&f.out, "out", "", "write the request to this file, and send nothing")
	flags.StringVar(&f.file, "request", "", "file with the request to send")
	flags.StringArrayVar(&f.signatures, "sig", nil, "file with a signature over --request; may be repeated")
	flags.BoolVar(&f.dryRun, "dry-run", false, "say what would change, and send nothing")
	return cmd
}

// check refuses flags that do not go together.
func (f *reconfigureFlags) check() error {
	switch {
	case f.file != "" && (f.shaped || f.expiresGiven):
		return usagef("--request is complete; what is to change goes into a new one")
	case f.file != "" && f.out != "":
		return usagef("--request and --out: the file is there already")
	case f.file == "" && len(f.signatures) > 0:
		return usagef("--sig is over the request in a file; name it with --request")
	case f.file == "" && !f.shaped:
		return usagef("nothing would change: say what is to, or name a --request")
	case f.out != "" && (f.signing || f.dryRun):
		return usagef("--out writes the request and nothing else; sign it with `ledgerd keys sign`")
	case f.out == "" && !f.dryRun && !f.signing:
		return usagef("nobody signs: give a --key, or write the request with --out for others to sign")
	case len(f.urls) == 0:
		return usagef("--rpc is missing")
	}
	for _, url := range f.urls {
		if err := validURL(url); err != nil {
			return err
		}
	}
	return nil
}

func (c console) runReconfigure(ctx context.Context, f reconfigureFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	q, chain, err := f.load(ctx)
	if err != nil {
		return err
	}
	if f.out != "" {
		return c.writeRequest(f, q)
	}
	signatures, err := f.sign(q)
	if err != nil {
		return err
	}
	if f.dryRun {
		return c.printDryRun(f, q, chain, signatures)
	}
	return c.follow(ctx, f, q, signatures)
}

// load reads the request, or makes it from the node's chain and the flags. The chain is nil where nobody needs it.
func (f *reconfigureFlags) load(ctx context.Context) (q consensus.Request, chain []consensus.Segment, err error) {
	var change request.Change
	if f.file != "" {
		if q, err = readRequest(f.file); err != nil || !f.dryRun {
			return q, nil, err
		}
	} else if change, err = f.change(); err != nil {
		return q, nil, usageError{err}
	}
	var tail hexutil.Uint64
	err = f.ask(ctx, func(client *logClient) (err error) {
		if chain, err = client.chain(ctx); err == nil && f.file == "" {
			err = client.call(ctx, &tail, "log_tail")
		}
		return err
	})
	if err != nil || f.file != "" {
		return q, chain, err
	}
	if f.expires == 0 || f.expires > math.MaxInt64 {
		return q, nil, usagef("--expires %d: want a number of entries", f.expires)
	}
	spec, err := change.Apply(chain, node.Faults)
	if err != nil {
		return q, nil, usageError{err}
	}
	last := chain[len(chain)-1]
	return consensus.Request{NetworkID: last.Network, Epoch: last.Epoch + 1, Spec: spec, NotAfter: consensus.LSN(tail) + consensus.LSN(f.expires)}, chain, nil
}

// readRequest reads a request file. It is the command line that is wrong if that fails.
func readRequest(path string) (consensus.Request, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return consensus.Request{}, usageError{err}
	}
	q, err := request.Decode(text)
	if err != nil {
		return consensus.Request{}, usagef("request file %s: %w", path, err)
	}
	return q, nil
}

// ask asks one node after the other until one answers.
func (f *reconfigureFlags) ask(ctx context.Context, question func(*logClient) error) error {
	var errs []error
	for _, url := range f.urls {
		client, err := dialLog(ctx, url, f.secret, f.timeout)
		if err == nil {
			err = question(client)
			client.rpc.Close()
		}
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// change is what the flags ask for.
func (f *reconfigureFlags) change() (request.Change, error) {
	c := request.Change{Engine: f.engine, Threshold: f.threshold}
	if f.threshold < 0 {
		return c, fmt.Errorf("--threshold %d: want at least 1", f.threshold)
	}
	var err error
	if c.IDs, c.Members, err = membersFlag(f.members); err != nil {
		return c, fmt.Errorf("--members %s: %w", f.members, err)
	}
	for _, text := range f.remove {
		id, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return c, fmt.Errorf("--remove %q: want the id of a member", text)
		}
		c.Remove = append(c.Remove, id)
	}
	for _, text := range f.add {
		p, err := config.ParsePeerAddress(text)
		if err != nil {
			return c, fmt.Errorf("--add: %w", err)
		}
		c.Add = append(c.Add, p)
	}
	for _, text := range f.params {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return c, fmt.Errorf("--param %q: want NAME=VALUE", text)
		}
		if c.Params == nil {
			c.Params = make(map[string]string)
		}
		c.Params[name] = value
	}
	for _, text := range f.admins {
		key, err := config.ParseKey(text)
		if err != nil {
			return c, fmt.Errorf("--admin: %w", err)
		}
		c.Admins = append(c.Admins, key)
	}
	c.Ledger, err = f.ledgerParameters()
	return c, err
}

// membersFlag reads ids, or a file.
func membersFlag(text string) (ids []uint64, members []genesis.Member, err error) {
	if text == "" {
		return nil, nil, nil
	}
	if strings.Trim(text, "0123456789, ") != "" {
		content, err := os.ReadFile(text)
		if err != nil {
			return nil, nil, err
		}
		members, err = request.DecodeMembers(content)
		return nil, members, err
	}
	for part := range strings.SplitSeq(text, ",") {
		id, err := strconv.ParseUint(strings.TrimSpace(part), 10, 64)
		if err != nil {
			return nil, nil, fmt.Errorf("%q is not the id of a member", part)
		}
		ids = append(ids, id)
	}
	return ids, nil, nil
}

func (f *reconfigureFlags) ledgerParameters() ([]byte, error) {
	var gasLimit *uint64
	var baseFee *big.Int
	var coinbase *common.Address
	if f.gasLimit != "" {
		v, err := strconv.ParseUint(f.gasLimit, 0, 64)
		if err != nil {
			return nil, fmt.Errorf("--gas-limit %q: want a number", f.gasLimit)
		}
		gasLimit = &v
	}
	if f.baseFee != "" {
		v, ok := new(big.Int).SetString(f.baseFee, 0)
		if !ok || v.Sign() < 0 || v.BitLen() > 256 {
			return nil, fmt.Errorf("--base-fee %q: want a number of wei", f.baseFee)
		}
		baseFee = v
	}
	if f.coinbase != "" {
		if !common.IsHexAddress(f.coinbase) {
			return nil, fmt.Errorf("--coinbase %q: want an address", f.coinbase)
		}
		v := common.HexToAddress(f.coinbase)
		coinbase = &v
	}
	return request.LedgerParameters(gasLimit, baseFee, coinbase), nil
}

// sign gathers the signatures over a request: those in files, and new ones.
func (f *reconfigureFlags) sign(q consensus.Request) (signatures []consensus.Signature, err error) {
	if signatures, err = readSignatures(q, f.signatures); err != nil {
		return nil, err
	}
	for _, path := range f.keys {
		key, err := home.ReadKey(path)
		if err != nil {
			return nil, err
		}
		signatures = append(signatures, q.Sign(key))
	}
	return signatures, nil
}

// readSignatures reads signature files.
func readSignatures(q request.Signable, paths []string) (signatures []consensus.Signature, err error) {
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, usageError{err}
		}
		s, err := request.DecodeSignature(q, text)
		if err != nil {
			return nil, usagef("signature file %s: %w", path, err)
		}
		signatures = append(signatures, s)
	}
	return signatures, nil
}

// writeRequest writes the request for others to sign.
func (c console) writeRequest(f reconfigureFlags, q consensus.Request) error {
	if err := writeNew(f.out, request.Encode(q)); err != nil {
		return err
	}
	return c.print(f.json, map[string]string{"file": f.out, "request": q.Hash().String()}, func(w io.Writer) {
		fmt.Fprintf(w, "request %v is in %s\n", q.Hash(), f.out)
		fmt.Fprintf(w, "sign it:  ledgerd keys sign %s --key KEY\n", f.out)
		fmt.Fprintf(w, "send it:  ledgerd log reconfigure --request %s --sig SIGNATURE\n", f.out)
	})
}

// writeNew makes a file, and does not replace one that says something else.
func writeNew(path string, content []byte) error {
	switch there, err := os.ReadFile(path); {
	case err == nil && string(there) != string(content):
		return fmt.Errorf("%w %s: a file of that name is there", home.ErrCannotCreate, path)
	case err == nil:
		return nil
	}
	return home.WriteFile(path, content, 0o644)
}

// printDryRun says what a request would change.
func (c console) printDryRun(f reconfigureFlags, q consensus.Request, chain []consensus.Segment, signatures []consensus.Signature) error {
	last := chain[len(chain)-1]
	lines := request.Compare(last.Spec, q)
	signed := signedBy(last.Spec, signatures)
	lines = append(lines, request.Line{
		About: "signed", Text: fmt.Sprintf("by %d of the %d administrators of epoch %d; it takes %d", signed, len(last.Spec.Admins), last.Epoch, last.Spec.Threshold),
	})
	if q.Epoch != last.Epoch+1 || q.NetworkID != last.Network {
		lines = append(lines, request.Line{About: "too late", Text: fmt.Sprintf("the next epoch is %d of network %v", last.Epoch+1, last.Network)})
	}
	form := struct {
		Request  string   `json:"request"`
		Epoch    uint64   `json:"epoch"`
		NotAfter uint64   `json:"notAfter"`
		Changes  []string `json:"changes"`
	}{q.Hash().String(), uint64(q.Epoch), uint64(q.NotAfter), nil}
	for _, l := range lines {
		form.Changes = append(form.Changes, l.String())
	}
	return c.print(f.json, form, func(w io.Writer) { printLines(w, lines) })
}

func signedBy(spec consensus.Spec, signatures []consensus.Signature) int {
	return len(slices.DeleteFunc(slices.Clone(spec.Admins), func(admin ed25519.PublicKey) bool {
		return !slices.ContainsFunc(signatures, func(s consensus.Signature) bool { return admin.Equal(s.Key) })
	}))
}

func printLines(w io.Writer, lines []request.Line) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, l := range lines {
		fmt.Fprintf(t, "%s\t%s\n", l.About, l.Text)
	}
	t.Flush()
}
