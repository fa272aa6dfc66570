package genesis

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net"
	"slices"
	"strconv"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/holiman/uint256"

	"ledgerd/consensus"
	"ledgerd/contracts"
	"ledgerd/vm"
)

const (
	// DefaultGasLimit is the gas limit of a block where the file names none.
	DefaultGasLimit = 150_000_000
	// DefaultDedupWindow is how many LSNs a record id is remembered where the file does not say.
	DefaultDedupWindow = 65_536
	// EngineLocal is the engine of a chain that names none: one node that orders alone.
	EngineLocal = "local"
	// EngineRaft is the engine of a chain whose members trust each other.
	EngineRaft = "raft"
	// EngineComet is the engine of a chain whose members need not trust each other.
	EngineComet = "comet"

	// MinGasLimit is the least gas limit of a block: one transaction of the largest size that EIP-7825 allows must fit.
	MinGasLimit = 1 << 24
)

// Genesis is a parsed genesis file.
type Genesis struct {
	core.Genesis
	Ledgerd Section
}

// Section is what the file says under "ledgerd".
type Section struct {
	Engine           string       `json:"engine,omitempty"`
	DedupWindow      uint64       `json:"dedupWindow,omitempty"`
	StrictTimestamps bool         `json:"strictTimestamps,omitempty"`
	Administrators   []HexKey     `json:"administrators,omitempty"`
	Threshold        int          `json:"threshold,omitempty"`
	Members          []Member     `json:"members,omitempty"`
	Permissions      *Permissions `json:"permissions,omitempty"`
	// Imported is a chain that was made elsewhere: its blocks are imported, under whatever rules of Ethereum they are, and none is ordered.
	Imported bool `json:"imported,omitempty"`
}

// Member is a node that orders the first segment: a consensus.Member as the file spells it.
type Member struct {
	ID             uint64   `json:"id"`                       // not 0, unique; not used again for another disk
	NodeKey        HexKey   `json:"nodeKey,omitempty"`        // who it is to the other members
	ConsensusKey   HexKey   `json:"consensusKey,omitempty"`   // what it votes with, where the engine has votes
	PeerAddress    string   `json:"peerAddress,omitempty"`    // host:port where the other members reach it
	CometAddresses []string `json:"cometAddresses,omitempty"` // CometBFT p2p, of even and of odd epochs
}

// member returns m in the form of the log.
func (m Member) member() consensus.Member {
	c := consensus.Member{
		ID: m.ID, NodeKey: ed25519.PublicKey(m.NodeKey), ConsensusKey: ed25519.PublicKey(m.ConsensusKey), PeerAddress: m.PeerAddress,
	}
	copy(c.CometAddresses[:], m.CometAddresses)
	return c
}

// Permissions is the first content of the Permissions contract. Without it the contract is open: everybody may send
// and deploy, and nobody can change that.
type Permissions struct {
	RestrictSend   bool             `json:"restrictSend,omitempty"`
	RestrictDeploy bool             `json:"restrictDeploy,omitempty"`
	Administrators []common.Address `json:"administrators,omitempty"`
	Senders        []common.Address `json:"senders,omitempty"`
	Deployers      []common.Address `json:"deployers,omitempty"`
}

// HexKey is an ed25519 public key, written as 64 hexadecimal digits.
type HexKey ed25519.PublicKey

// MarshalText implements encoding.TextMarshaler.
func (k HexKey) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(k)), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (k *HexKey) UnmarshalText(text []byte) error {
	raw, err := hex.DecodeString(string(bytes.TrimPrefix(text, []byte("0x"))))
	if err != nil || len(raw) != ed25519.PublicKeySize {
		return fmt.Errorf("%q is not an ed25519 public key of %d hexadecimal bytes", text, ed25519.PublicKeySize)
	}
	*k = raw
	return nil
}

// Parse reads a genesis file, fills in what it leaves open (gas limit, base fee 0, engine, window) and validates it.
// An unknown key in the ledgerd section is an error that names it; outside of that section unknown keys are left alone, since
// the format is not ours.
func Parse(data []byte) (*Genesis, error) {
	g, _, err := decode(data)
	if err != nil {
		return nil, err
	}
	g.ensureDefaults()
	if err := g.Validate(); err != nil {
		return nil, err
	}
	return g, nil
}

// ParseForInit is Parse for a file that was not made by ledgerd: it adds the system contracts, the predeployed tools
// and the permissions that a chain of ours starts with, where the file does not already hold them.
//
// A file of a chain that began with proof of work, and says nothing to ledgerd, is of one to be imported (Section.Imported). Nothing is added to it, or its
// first block would be another one.
func ParseForInit(data []byte) (*Genesis, error) {
	g, section, err := decode(data)
	if err != nil {
		return nil, err
	}
	if !section && g.Difficulty != nil && g.Difficulty.Sign() > 0 {
		g.Ledgerd.Imported = true
	}
	g.ensureDefaults()
	if !g.Ledgerd.Imported {
		g.Complete()
	}
	if err := g.Validate(); err != nil {
		return nil, err
	}
	return g, nil
}

// decode parses data, and says whether it has a section ledgerd.
func decode(data []byte) (g *Genesis, section bool, err error) {
	g = new(Genesis)
	if err := json.Unmarshal(data, &g.Genesis); err != nil {
		return nil, false, fmt.Errorf("genesis: %w", err)
	}
	var file struct {
		Ledgerd json.RawMessage `json:"ledgerd"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, false, fmt.Errorf("genesis: %w", err)
	}
	if len(file.Ledgerd) > 0 {
		dec := json.NewDecoder(bytes.NewReader(file.Ledgerd))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&g.Ledgerd); err != nil {
			return nil, false, fmt.Errorf("genesis: section ledgerd: %w", err)
		}
	}
	return g, len(file.Ledgerd) > 0, nil
}

func (g *Genesis) ensureDefaults() {
	if !g.Ledgerd.Imported { // whose first block is what it is
		if g.GasLimit == 0 {
			g.GasLimit = DefaultGasLimit
		}
		if g.BaseFee == nil {
			g.BaseFee = new(big.Int)
		}
		if g.Difficulty == nil {
			g.Difficulty = new(big.Int)
		}
	}
	if g.Alloc == nil {
		g.Alloc = types.GenesisAlloc{}
	}
	if g.Ledgerd.Engine == "" {
		g.Ledgerd.Engine = EngineLocal
	}
	if g.Ledgerd.DedupWindow == 0 {
		g.Ledgerd.DedupWindow = DefaultDedupWindow
	}
}

// Dev returns the genesis of a development chain: everybody may do everything, gas is free, and each of the accounts
// holds 10,000 ether.
func Dev(chainID uint64, accounts []common.Address) *Genesis {
	g := &Genesis{Genesis: core.Genesis{
		Config: vm.OsakaConfig(chainID),
		Alloc:  types.GenesisAlloc{},
	}}
	g.ensureDefaults()
	for _, a := range accounts {
		g.Alloc[a] = types.Account{Balance: new(big.Int).Mul(big.NewInt(10_000), big.NewInt(1e18))}
	}
	g.Complete()
	return g
}

// Complete adds the predeployed contracts that the allocations lack. Where the file has an account at such an address
// its balance and storage are kept, and its code if it has any.
func (g *Genesis) Complete() {
	for addr, want := range contracts.Predeploys() {
		have, ok := g.Alloc[addr]
		if ok && len(have.Code) > 0 {
			continue
		}
		if have.Balance != nil {
			want.Balance = have.Balance
		}
		g.Alloc[addr] = want
	}
	if p := g.Ledgerd.Permissions; p != nil {
		account := p.contract().Account()
		if have, ok := g.Alloc[contracts.PermissionsAddress]; ok && have.Balance != nil {
			account.Balance = have.Balance
		}
		g.Alloc[contracts.PermissionsAddress] = account
	}
}

func (p *Permissions) contract() contracts.Permissions {
	return contracts.Permissions{
		RestrictSend:   p.RestrictSend,
		RestrictDeploy: p.RestrictDeploy,
		Admins:         p.Administrators,
		Senders:        p.Senders,
		Deployers:      p.Deployers,
	}
}

// Validate reports everything that is wrong with g.
func (g *Genesis) Validate() error {
	var problems []error
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf("genesis: "+format, args...)) }

	if g.Config == nil {
		bad("config is missing")
		return errors.Join(problems...)
	}
	if g.Ledgerd.Imported {
		g.validateImported(bad)
		return errors.Join(problems...)
	}
	if err := vm.ValidateChainConfig(g.Config); err != nil {
		bad("config: %w", err)
	}
	if g.Number != 0 {
		bad("number: %d, want 0", g.Number)
	}
	if g.GasLimit < MinGasLimit {
		bad("gasLimit: %d is below %d, the largest transaction (EIP-7825)", g.GasLimit, uint64(MinGasLimit))
	}
	if g.BaseFee.Sign() < 0 || g.BaseFee.BitLen() > 256 {
		bad("baseFeePerGas: %v is not a 256 bit unsigned number", g.BaseFee)
	}
	if g.Difficulty.Sign() != 0 {
		bad("difficulty: %v, want 0: there is no proof of work here", g.Difficulty)
	}
	if len(g.ExtraData) > 32 {
		bad("extraData: %d bytes, at most 32", len(g.ExtraData))
	}
	if zero, ok := g.Alloc[common.Address{}]; ok && len(zero.Code) > 0 {
		bad("alloc: code at the zero address could log something that is no EIP-6110 deposit and so make every later block fail")
	}
	for _, addr := range slices.SortedFunc(maps.Keys(g.Alloc), common.Address.Cmp) {
		if balance := g.Alloc[addr].Balance; balance != nil && (balance.Sign() < 0 || balance.BitLen() > 256) {
			bad("alloc %v: balance is not a 256 bit unsigned number", addr)
		}
	}
	if err := vm.ValidateAlloc(g.Alloc); err != nil {
		bad("alloc: %w (`ledgerd init --genesis` adds what is missing)", err)
	}
	g.Ledgerd.validate(bad)
	if len(problems) == 0 { // what has been said above need not be said again in the log's words
		if err := g.Spec().Validate(); err != nil {
			bad("ledgerd: %w", err)
		}
	}
	return errors.Join(problems...)
}

// validateImported checks what an imported chain cannot be. That its blocks are valid is found out when they are imported.
func (g *Genesis) validateImported(bad func(format string, args ...any)) {
	if err := vm.ValidateForeignConfig(g.Config); err != nil {
		bad("config: %w", err)
	}
	if s := g.Ledgerd; s.Engine != EngineLocal || len(s.Members)+len(s.Administrators) > 0 || s.Permissions != nil || s.StrictTimestamps {
		bad("ledgerd: with \"imported\" there is no other key: nothing is ordered here")
	}
}

func (s *Section) validate(bad func(format string, args ...any)) {
	if s.DedupWindow < 1024 || s.DedupWindow > 1<<24 {
		bad("ledgerd.dedupWindow: %d is not between 1024 and %d", s.DedupWindow, 1<<24)
	}
	if s.StrictTimestamps && s.Engine != EngineLocal {
		bad("ledgerd.strictTimestamps: only the %s engine can do that, not %q", EngineLocal, s.Engine)
	}
	if s.Threshold < 0 || s.Threshold > len(s.Administrators) {
		bad("ledgerd.threshold: %d signatures of %d administrators", s.Threshold, len(s.Administrators))
	}
	if len(s.Administrators) > 0 && s.Threshold == 0 {
		bad("ledgerd.threshold: missing; with administrators at least 1 signature must be asked for")
	}
	s.validateMembers(bad)
	if p := s.Permissions; p != nil {
		if (p.RestrictSend || p.RestrictDeploy) && len(p.Administrators) == 0 {
			bad("ledgerd.permissions.administrators: none, so that nobody could ever change the permissions")
		}
		if err := p.contract().Validate(); err != nil {
			bad("ledgerd.permissions: %w", err)
		}
	}
}

// validateMembers checks what the engine of the first segment needs of its members. An engine that this package does not know
// is left to whoever opens it; what holds for all of them is asked of consensus.
func (s *Section) validateMembers(bad func(format string, args ...any)) {
	several := s.Engine == EngineRaft || s.Engine == EngineComet
	switch {
	case s.Engine == EngineLocal && len(s.Members) > 1:
		bad("ledgerd.members: %d, and the %s engine orders alone", len(s.Members), EngineLocal)
	case several && len(s.Members) == 0:
		bad("ledgerd.members: none; the %s engine needs them named (`ledgerd testnet init` makes such a file)", s.Engine)
	}
	ids, keys, addresses := map[uint64]bool{}, map[string]bool{}, map[string]bool{}
	for i, m := range s.Members {
		at := fmt.Sprintf("ledgerd.members[%d]", i)
		if m.ID == 0 || ids[m.ID] {
			bad("%s.id: %d, which must not be 0 and not be another member's", at, m.ID)
		}
		if len(m.NodeKey) == 0 && s.Engine != EngineLocal {
			bad("%s.nodeKey: missing; `ledgerd keys show node.key` prints it", at)
		}
		if len(m.NodeKey) > 0 && keys[string(m.NodeKey)] {
			bad("%s.nodeKey: %x is another member's", at, []byte(m.NodeKey))
		}
		if m.PeerAddress == "" && several && len(s.Members) > 1 {
			bad("%s.peerAddress: missing; the other members dial it", at)
		}
		if m.PeerAddress != "" && !isAddress(m.PeerAddress) {
			bad("%s.peerAddress: %q, want host:port", at, m.PeerAddress)
		}
		if m.PeerAddress != "" && addresses[m.PeerAddress] {
			bad("%s.peerAddress: %s is another member's", at, m.PeerAddress)
		}
		if n := len(m.CometAddresses); n != 2 && (n != 0 || s.Engine == EngineComet) {
			bad("%s.cometAddresses: %d, want 2, for even and for odd epochs", at, n)
		}
		if len(m.ConsensusKey) == 0 && s.Engine == EngineComet {
			bad("%s.consensusKey: missing; `ledgerd keys show consensus.key` prints it", at)
		}
		ids[m.ID], keys[string(m.NodeKey)], addresses[m.PeerAddress] = true, true, true
	}
}

// isAddress reports whether s names a host and a port that can be dialled.
func isAddress(s string) bool {
	host, port, err := net.SplitHostPort(s)
	number, portErr := strconv.ParseUint(port, 10, 16)
	return err == nil && portErr == nil && host != "" && number != 0
}

// NetworkID names the network: SHA-256 over a domain tag and the canonical form of the file (invariant 1). Chain id
// 1337 is not unique; this is.
func (g *Genesis) NetworkID() (consensus.NetworkID, error) {
	canonical, err := g.JSON()
	if err != nil {
		return consensus.NetworkID{}, err
	}
	h := sha256.New()
	h.Write([]byte("ledgerd genesis v1\x00"))
	h.Write(canonical)
	return consensus.NetworkID(h.Sum(nil)), nil
}

// JSON returns the canonical form of the file: keys sorted, no white space, numbers in hexadecimal where geth writes
// them so. Parse of it gives an equal Genesis.
func (g *Genesis) JSON() ([]byte, error) {
	ethereum, err := json.Marshal(&g.Genesis)
	if err != nil {
		return nil, fmt.Errorf("genesis: %w", err)
	}
	section, err := json.Marshal(&g.Ledgerd)
	if err != nil {
		return nil, fmt.Errorf("genesis: section ledgerd: %w", err)
	}
	var file map[string]json.RawMessage
	if err := json.Unmarshal(ethereum, &file); err != nil {
		return nil, fmt.Errorf("genesis: %w", err)
	}
	file["ledgerd"] = section
	return json.Marshal(file)
}

// FixedBaseFee returns the base fee of every block, in wei, until a segment of the log brings another.
func (g *Genesis) FixedBaseFee() *uint256.Int {
	if g.BaseFee == nil { // imported, from before London
		return new(uint256.Int)
	}
	return uint256.MustFromBig(g.BaseFee)
}

// Spec returns the configuration of the log's first segment.
func (g *Genesis) Spec() consensus.Spec {
	spec := consensus.Spec{Engine: g.Ledgerd.Engine, Threshold: g.Ledgerd.Threshold}
	if g.Ledgerd.Engine == EngineComet {
		spec.Faults = consensus.ByzantineFaults
	}
	for _, m := range g.Ledgerd.Members {
		spec.Members = append(spec.Members, m.member())
	}
	for _, key := range g.Ledgerd.Administrators {
		spec.Admins = append(spec.Admins, ed25519.PublicKey(key))
	}
	return spec
}
