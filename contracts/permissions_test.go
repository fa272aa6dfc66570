package contracts_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/stretchr/testify/require"

	"ledgerd/contracts"
	"ledgerd/contracts/bindings/permissions"
)

var perms = permissions.NewPermissions()

// Invariant 1: the compiler put the variables where the executor looks for them, and nothing else anywhere.
func TestPermissionsLayout(t *testing.T) {
	raw, err := os.ReadFile("artifacts/Permissions.json")
	require.NoError(t, err)
	var artifact struct {
		Bytecode, DeployedBytecode hexutil.Bytes
		Immutables                 []any
		StorageLayout              []struct {
			Label, Type  string
			Slot, Offset int
		}
	}
	require.NoError(t, json.Unmarshal(raw, &artifact))

	var layout []string
	for _, v := range artifact.StorageLayout {
		layout = append(layout, fmt.Sprintf("%d+%d %s %s", v.Slot, v.Offset, v.Type, v.Label))
	}
	require.Equal(t, []string{
		"0+0 mapping(address => uint256) _flags",
		"1+0 uint256 _administrators",
		"2+0 uint256 _restrictions",
	}, layout)
	require.Empty(t, artifact.Immutables, "the runtime code would need a constructor")

	// What a deployment leaves behind is what a genesis block is given.
	c := newChain(t, nil)
	addr, err := c.create(account("a"), artifact.Bytecode)
	require.NoError(t, err)
	require.Equal(t, contracts.Permissions{}.Account().Code, c.state.GetCode(addr))
	require.Equal(t, []byte(artifact.DeployedBytecode), c.state.GetCode(addr))

	// The named bits are the same on both sides.
	for _, bit := range []struct {
		want uint64
		call []byte
	}{
		{contracts.FlagSend, perms.PackSEND()},
		{contracts.FlagDeploy, perms.PackDEPLOY()},
		{contracts.FlagAdmin, perms.PackADMINISTER()},
		{contracts.RestrictSend, perms.PackRESTRICTSEND()},
		{contracts.RestrictDeploy, perms.PackRESTRICTDEPLOY()},
	} {
		require.Equal(t, bit.want, new(big.Int).SetBytes(c.view(addr, bit.call)).Uint64())
	}
}

// TestPermissions plays the dialogues of testdata/permissions. The commands are
//
//	genesis [restrict=(send,deploy)] [send=(…)] [deploy=(…)] [admin=(…)]
//	call from=a      with lines `grant b send deploy`, `revoke b send`, `set b send`, `batch a=send b=send,admin`,
//	                 `restrict send`; prints the events or the error of each
//	show a b …       prints slots and views, and fails if they disagree
//
// Accounts are named by letters; 0 is the zero address. Flags may be numbers too.
func TestPermissions(t *testing.T) {
	datadriven.Walk(t, "testdata/permissions", func(t *testing.T, path string) {
		var l *permissioned
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "genesis":
				var p contracts.Permissions
				for _, arg := range d.CmdArgs {
					switch arg.Key {
					case "restrict":
						p.RestrictSend = slices.Contains(arg.Vals, "send")
						p.RestrictDeploy = slices.Contains(arg.Vals, "deploy")
					case "send":
						p.Senders = accounts(arg.Vals)
					case "deploy":
						p.Deployers = accounts(arg.Vals)
					case "admin":
						p.Admins = accounts(arg.Vals)
					default:
						d.Fatalf(t, "unknown argument %s", arg.Key)
					}
				}
				l = newPermissioned(t, p)
				if err := p.Validate(); err != nil {
					return err.Error()
				}
				return "ok"
			case "call":
				var from string
				d.ScanArgs(t, "from", &from)
				var b strings.Builder
				for _, line := range strings.Split(d.Input, "\n") {
					for _, out := range l.call(account(from), parseCall(line)) {
						fmt.Fprintln(&b, out)
					}
				}
				return b.String()
			case "show":
				var b strings.Builder
				for _, arg := range d.CmdArgs {
					a := account(arg.Key)
					l.requireViewsAgree(a)
					flags := l.flags(a)
					fmt.Fprintf(&b, "%s: %s; may send: %v, may deploy: %v\n", arg.Key, names(flags, flagNames),
						l.maySend(a), l.mayDeploy(a))
				}
				fmt.Fprintf(&b, "administrators: %d, restrictions: %s\n", l.slot(contracts.PermissionsAddress, contracts.AdminCountSlot),
					names(l.restrictions(), restrictionNames))
				return b.String()
			}
			d.Fatalf(t, "unknown command")
			return ""
		})
	})
}

// Random accounts do random things to the contract and to a model in Go. After each step, storage must be what
// Permissions.Account makes of the model (invariants 1 and 2), the views must agree with it, and 3 and 4 must hold.
func TestPermissionsModel(t *testing.T) {
	actors := accounts([]string{"a", "b", "c", "d"})
	done := make(map[string]int)
	for seed := range uint64(8) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 0))
			m := model{flags: map[common.Address]uint64{actors[0]: contracts.FlagSend | contracts.FlagAdmin}}
			l := newPermissioned(t, contracts.Permissions{Admins: actors[:1]})
			for step := range 400 {
				from := actors[rng.IntN(len(actors))]
				call := randomCall(rng, actors)
				want := m.call(from, call)
				have := l.call(from, call)
				require.Equal(t, want, have, "step %d: %s calls %+v", step, name(from), call)
				for _, line := range have {
					kind, _, _ := strings.Cut(line, "(")
					done[kind]++
				}
				l.requireStorage(m.permissions(), actors)
				l.requireViewsAgree(actors[step%len(actors)])
				require.NoError(t, m.check(), "step %d", step)
			}
		})
	}
	// The walks are worth something only if they got about.
	for _, kind := range []string{
		"error: PermissionsUnauthorizedAccount", "error: PermissionsInvalidAccount", "error: PermissionsInvalidFlags",
		"error: PermissionsInvalidRestrictions", "error: PermissionsAdministratorMustSend", "error: PermissionsLastAdministrator",
		"PermissionsChanged", "RestrictionsChanged", "nothing changed",
	} {
		require.NotZero(t, done[kind], kind)
	}
}

// A batch whose arrays differ in length cannot be said in a dialogue.
func TestPermissionsBatchLengths(t *testing.T) {
	l := newPermissioned(t, contracts.Permissions{Admins: accounts([]string{"a"})})
	_, _, err := l.transact(account("a"), contracts.PermissionsAddress,
		perms.PackSetPermissionsBatch(accounts([]string{"b", "c"}), []*big.Int{big.NewInt(1)}))
	require.Equal(t, "PermissionsInvalidBatch(2, 1)", errorName(t, perms.GetABI(), err, show))
}

func TestPermissionsAccount(t *testing.T) {
	a, b := account("a"), account("b")
	require.Empty(t, contracts.Permissions{}.Account().Storage)

	// Lists may overlap and repeat.
	have := contracts.Permissions{
		RestrictSend: true, RestrictDeploy: true,
		Senders: []common.Address{b, b, a}, Deployers: []common.Address{a}, Admins: []common.Address{a, a},
	}.Account()
	require.EqualValues(t, 1, have.Nonce)
	require.Equal(t, map[common.Hash]common.Hash{
		contracts.PermissionsSlot(a): common.BigToHash(big.NewInt(7)),
		contracts.PermissionsSlot(b): common.BigToHash(big.NewInt(1)),
		contracts.AdminCountSlot:     common.BigToHash(big.NewInt(1)),
		contracts.RestrictionsSlot:   common.BigToHash(big.NewInt(3)),
	}, have.Storage)
	// The slot of key 1, as every Solidity contract has it: keccak256(0x00…01 ++ 0x00…00).
	require.Equal(t, common.HexToHash("0xada5013122d395ba3c54772283fb069b10426056ef8ca54750cb9bb552a59e7d"),
		contracts.PermissionsSlot(common.BytesToAddress([]byte{1})))
}

// permissioned is a chain, spoken to in the words of Permissions.
type permissioned struct{ *chain }

func newPermissioned(t testing.TB, p contracts.Permissions) *permissioned {
	return &permissioned{newChain(t, types.GenesisAlloc{contracts.PermissionsAddress: p.Account()})}
}

func (l *permissioned) flags(a common.Address) uint64 {
	return l.slot(contracts.PermissionsAddress, contracts.PermissionsSlot(a))
}

func (l *permissioned) restrictions() uint64 {
	return l.slot(contracts.PermissionsAddress, contracts.RestrictionsSlot)
}

// maySend and mayDeploy are the rules as the executor applies them, from slots alone.
func (l *permissioned) maySend(a common.Address) bool {
	return l.restrictions()&contracts.RestrictSend == 0 || l.flags(a)&contracts.FlagSend != 0
}

func (l *permissioned) mayDeploy(a common.Address) bool {
	return l.restrictions()&contracts.RestrictDeploy == 0 || l.flags(a)&contracts.FlagDeploy != 0
}

// requireViewsAgree compares what the contract answers with what its slots say.
func (l *permissioned) requireViewsAgree(a common.Address) {
	l.t.Helper()
	number := func(call []byte) uint64 {
		return new(big.Int).SetBytes(l.view(contracts.PermissionsAddress, call)).Uint64()
	}
	truth := func(b bool) uint64 {
		if b {
			return 1
		}
		return 0
	}
	require.Equal(l.t, l.flags(a), number(perms.PackPermissionsOf(a)))
	require.Equal(l.t, truth(l.maySend(a)), number(perms.PackMaySend(a)))
	require.Equal(l.t, truth(l.mayDeploy(a)), number(perms.PackMayDeploy(a)))
	require.Equal(l.t, truth(l.flags(a)&contracts.FlagAdmin != 0), number(perms.PackIsAdmin(a)))
	require.Equal(l.t, l.restrictions(), number(perms.PackRestrictions()))
	require.Equal(l.t, l.slot(contracts.PermissionsAddress, contracts.AdminCountSlot), number(perms.PackAdministrators()))
}

// requireStorage compares the slots with those of a genesis account.
func (l *permissioned) requireStorage(p contracts.Permissions, actors []common.Address) {
	l.t.Helper()
	want := p.Account().Storage
	slots := []common.Hash{contracts.AdminCountSlot, contracts.RestrictionsSlot, contracts.PermissionsSlot(common.Address{})}
	for _, a := range actors {
		slots = append(slots, contracts.PermissionsSlot(a))
	}
	for _, s := range slots {
		require.Equal(l.t, want[s], l.state.GetState(contracts.PermissionsAddress, s))
	}
}

// A call is one change asked of the contract.
type call struct {
	verb     string // grant, revoke, set, batch, restrict
	accounts []common.Address
	bits     []uint64 // flags, one per account; or the restrictions
}

func (c call) pack() []byte {
	bits := make([]*big.Int, len(c.bits))
	for i, b := range c.bits {
		bits[i] = new(big.Int).SetUint64(b)
	}
	switch c.verb {
	case "grant":
		return perms.PackGrant(c.accounts[0], bits[0])
	case "revoke":
		return perms.PackRevoke(c.accounts[0], bits[0])
	case "set":
		return perms.PackSetPermissions(c.accounts[0], bits[0])
	case "batch":
		return perms.PackSetPermissionsBatch(c.accounts, bits)
	case "restrict":
		return perms.PackSetRestrictions(bits[0])
	}
	panic("unknown verb " + c.verb)
}

// call returns the events, one a line, or the error.
func (l *permissioned) call(from common.Address, c call) []string {
	l.t.Helper()
	_, logs, err := l.transact(from, contracts.PermissionsAddress, c.pack())
	if err != nil {
		require.Empty(l.t, logs)
		return []string{"error: " + errorName(l.t, perms.GetABI(), err, show)}
	}
	var lines []string
	for _, log := range logs {
		require.Equal(l.t, contracts.PermissionsAddress, log.Address)
		if e, err := perms.UnpackPermissionsChangedEvent(log); err == nil {
			lines = append(lines, permissionsChanged(e.Account, e.PreviousFlags.Uint64(), e.Flags.Uint64(), e.Administrator))
			continue
		}
		e, err := perms.UnpackRestrictionsChangedEvent(log)
		require.NoError(l.t, err)
		lines = append(lines, restrictionsChanged(e.PreviousRestrictions.Uint64(), e.Restrictions.Uint64(), e.Administrator))
	}
	if lines == nil {
		return []string{"nothing changed"}
	}
	return lines
}

func permissionsChanged(a common.Address, before, after uint64, by common.Address) string {
	return fmt.Sprintf("PermissionsChanged(%s, %s -> %s, by %s)", name(a), names(before, flagNames), names(after, flagNames), name(by))
}

func restrictionsChanged(before, after uint64, by common.Address) string {
	return fmt.Sprintf("RestrictionsChanged(%s -> %s, by %s)", names(before, restrictionNames), names(after, restrictionNames), name(by))
}

// A model is the contract, said again in Go.
type model struct {
	flags        map[common.Address]uint64
	restrictions uint64
}

func (m *model) call(from common.Address, c call) []string {
	if m.flags[from]&contracts.FlagAdmin == 0 {
		return []string{fmt.Sprintf("error: PermissionsUnauthorizedAccount(%s)", name(from))}
	}
	if c.verb == "restrict" {
		before, after := m.restrictions, c.bits[0]
		switch {
		case after > 3:
			return []string{fmt.Sprintf("error: PermissionsInvalidRestrictions(%d)", after)}
		case after == before:
			return []string{"nothing changed"}
		}
		m.restrictions = after
		return []string{restrictionsChanged(before, after, from)}
	}
	next := make(map[common.Address]uint64)
	for a, f := range m.flags {
		next[a] = f
	}
	var lines []string
	for i, a := range c.accounts {
		before, after := next[a], c.bits[i]
		if c.verb != "batch" && c.verb != "set" && after > 7 {
			return []string{fmt.Sprintf("error: PermissionsInvalidFlags(%d)", after)}
		}
		switch c.verb {
		case "grant":
			after |= before
		case "revoke":
			after = before &^ after
		}
		switch {
		case a == common.Address{}:
			return []string{fmt.Sprintf("error: PermissionsInvalidAccount(%s)", name(a))}
		case after > 7:
			return []string{fmt.Sprintf("error: PermissionsInvalidFlags(%d)", after)}
		case after&contracts.FlagAdmin != 0 && after&contracts.FlagSend == 0:
			return []string{fmt.Sprintf("error: PermissionsAdministratorMustSend(%s)", name(a))}
		}
		if after != before {
			next[a] = after
			lines = append(lines, permissionsChanged(a, before, after, from))
		}
	}
	if (&model{flags: next}).check() != nil {
		return []string{"error: PermissionsLastAdministrator()"}
	}
	m.flags = next
	if lines == nil {
		return []string{"nothing changed"}
	}
	return lines
}

// check reports a broken invariant 3 or 4.
func (m *model) check() error {
	admins := 0
	for a, f := range m.flags {
		if f&contracts.FlagAdmin == 0 {
			continue
		}
		admins++
		if f&contracts.FlagSend == 0 {
			return fmt.Errorf("administrator %s may not send", name(a))
		}
	}
	if admins == 0 {
		return errors.New("no administrator")
	}
	return nil
}

func (m *model) permissions() contracts.Permissions {
	p := contracts.Permissions{
		RestrictSend:   m.restrictions&contracts.RestrictSend != 0,
		RestrictDeploy: m.restrictions&contracts.RestrictDeploy != 0,
	}
	for a, f := range m.flags {
		if f&contracts.FlagSend != 0 {
			p.Senders = append(p.Senders, a)
		}
		if f&contracts.FlagDeploy != 0 {
			p.Deployers = append(p.Deployers, a)
		}
		if f&contracts.FlagAdmin != 0 {
			p.Admins = append(p.Admins, a)
		}
	}
	return p
}

// randomCall asks mostly for sensible things, and for all the others now and then.
func randomCall(rng *rand.Rand, actors []common.Address) call {
	who := func() common.Address {
		if rng.IntN(20) == 0 {
			return common.Address{}
		}
		return actors[rng.IntN(len(actors))]
	}
	bits := func() uint64 {
		if rng.IntN(15) == 0 {
			return 8 | rng.Uint64N(8)
		}
		return rng.Uint64N(8)
	}
	switch verb := []string{"grant", "revoke", "set", "batch", "restrict"}[rng.IntN(5)]; verb {
	case "restrict":
		return call{verb: verb, bits: []uint64{rng.Uint64N(5)}}
	case "batch":
		c := call{verb: verb}
		for range rng.IntN(5) {
			c.accounts = append(c.accounts, who())
			c.bits = append(c.bits, bits())
		}
		return c
	default:
		return call{verb: verb, accounts: []common.Address{who()}, bits: []uint64{bits()}}
	}
}

var (
	flagNames        = []string{"send", "deploy", "admin"}
	restrictionNames = []string{"send", "deploy"}
)

func parseCall(line string) call {
	words := strings.Fields(line)
	c := call{verb: words[0]}
	switch c.verb {
	case "restrict":
		c.bits = []uint64{parseBits(words[1:])}
	case "batch":
		for _, w := range words[1:] {
			who, flags, _ := strings.Cut(w, "=")
			c.accounts = append(c.accounts, account(who))
			c.bits = append(c.bits, parseBits(strings.Split(flags, ",")))
		}
	default:
		c.accounts = accounts(words[1:2])
		c.bits = []uint64{parseBits(words[2:])}
	}
	return c
}

func parseBits(words []string) uint64 {
	var bits uint64
	for _, w := range words {
		if i := slices.Index(flagNames, w); i >= 0 {
			bits |= 1 << i
			continue
		}
		var n uint64
		if _, err := fmt.Sscan(w, &n); err != nil && w != "none" {
			panic("not a flag: " + w)
		}
		bits |= n
	}
	return bits
}

func names(bits uint64, of []string) string {
	var words []string
	for i, n := range of {
		if bits>>i&1 != 0 {
			words = append(words, n)
		}
	}
	if words == nil {
		return "none"
	}
	return strings.Join(words, "+")
}

// account returns the account named by one letter, or the zero address for 0.
func account(name string) common.Address {
	if name == "0" {
		return common.Address{}
	}
	return common.BytesToAddress([]byte("account " + name))
}

func accounts(names []string) []common.Address {
	list := make([]common.Address, len(names))
	for i, n := range names {
		list[i] = account(n)
	}
	return list
}

func name(a common.Address) string {
	if a == (common.Address{}) {
		return "0"
	}
	return string(a[len(a)-1:])
}

func show(v any) string {
	if a, ok := v.(common.Address); ok {
		return name(a)
	}
	return fmt.Sprint(v)
}
