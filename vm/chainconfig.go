package vm

import (
	"bytes"
	"errors"
	"fmt"
	"math/big"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/params"
)

// OsakaConfig returns the rules of a new ledger: every fork through Osaka from genesis on, and none after it.
func OsakaConfig(chainID uint64) *params.ChainConfig {
	zero := func() *uint64 { return new(uint64) }
	return &params.ChainConfig{
		ChainID:                 new(big.Int).SetUint64(chainID),
		HomesteadBlock:          new(big.Int),
		EIP150Block:             new(big.Int),
		EIP155Block:             new(big.Int),
		EIP158Block:             new(big.Int),
		ByzantiumBlock:          new(big.Int),
		ConstantinopleBlock:     new(big.Int),
		PetersburgBlock:         new(big.Int),
		IstanbulBlock:           new(big.Int),
		MuirGlacierBlock:        new(big.Int),
		BerlinBlock:             new(big.Int),
		LondonBlock:             new(big.Int),
		ArrowGlacierBlock:       new(big.Int),
		GrayGlacierBlock:        new(big.Int),
		MergeNetsplitBlock:      new(big.Int),
		ShanghaiTime:            zero(),
		CancunTime:              zero(),
		PragueTime:              zero(),
		OsakaTime:               zero(),
		TerminalTotalDifficulty: new(big.Int),
		// There are no blobs, but the blob base fee that BLOBBASEFEE shows is computed from this (1 wei).
		BlobScheduleConfig: &params.BlobScheduleConfig{
			Cancun: params.DefaultCancunBlobConfig,
			Prague: params.DefaultPragueBlobConfig,
		},
	}
}

// ValidateChainConfig returns an error that names everything in config that a ledger cannot run: it executes the
// Osaka rules from genesis on, and its blocks are ordered by the log and by nothing else.
func ValidateChainConfig(config *params.ChainConfig) error {
	var problems []error
	problem := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf(format, args...))
	}
	if config == nil {
		return errors.New("chain config: missing")
	}
	if id := config.ChainID; id == nil || id.Sign() <= 0 || !id.IsUint64() {
		problem("chainId %v: must be between 1 and 2^64-1", id)
	}
	for _, fork := range []struct {
		name  string
		block *big.Int
	}{
		{"homesteadBlock", config.HomesteadBlock},
		{"eip150Block", config.EIP150Block},
		{"eip155Block", config.EIP155Block},
		{"eip158Block", config.EIP158Block},
		{"byzantiumBlock", config.ByzantiumBlock},
		{"constantinopleBlock", config.ConstantinopleBlock},
		{"petersburgBlock", config.PetersburgBlock},
		{"istanbulBlock", config.IstanbulBlock},
		{"berlinBlock", config.BerlinBlock},
		{"londonBlock", config.LondonBlock},
	} {
		if fork.block == nil || fork.block.Sign() != 0 {
			problem("%s %v: must be 0", fork.name, fork.block)
		}
	}
	for _, fork := range []struct {
		name string
		time *uint64
	}{
		{"shanghaiTime", config.ShanghaiTime},
		{"cancunTime", config.CancunTime},
		{"pragueTime", config.PragueTime},
		{"osakaTime", config.OsakaTime},
	} {
		switch {
		case fork.time == nil:
			problem("%s: missing, must be 0", fork.name)
		case *fork.time != 0:
			problem("%s %d: must be 0", fork.name, *fork.time)
		}
	}
	for _, fork := range []struct {
		name string
		time *uint64
	}{
		{"bpo1Time", config.BPO1Time},
		{"bpo2Time", config.BPO2Time},
		{"bpo3Time", config.BPO3Time},
		{"bpo4Time", config.BPO4Time},
		{"bpo5Time", config.BPO5Time},
		{"amsterdamTime", config.AmsterdamTime},
		{"bogotaTime", config.BogotaTime},
		{"ubtTime", config.UBTTime},
	} {
		if fork.time != nil {
			problem("%s: forks after Osaka are not supported", fork.name)
		}
	}
	if config.EnableUBTAtGenesis {
		problem("enableUBTAtGenesis: binary tries are not supported")
	}
	if config.DAOForkSupport {
		problem("daoForkSupport: not supported")
	}
	if ttd := config.TerminalTotalDifficulty; ttd == nil || ttd.Sign() != 0 {
		problem("terminalTotalDifficulty %v: must be 0, a ledger has no proof of work before the merge", ttd)
	}
	if config.Clique != nil {
		problem("clique: not supported, blocks are ordered by the log")
	}
	if s := config.BlobScheduleConfig; s == nil || s.Cancun == nil || s.Prague == nil {
		problem("blobSchedule: entries for cancun and prague are required")
	}
	if config.DepositContractAddress != (common.Address{}) {
		// EIP-6110 makes a deposit event that does not parse an invalid block. Here there are no invalid blocks, so
		// a contract of one's own at that address could stop the chain.
		problem("depositContractAddress %s: must be empty, there is no beacon chain to deposit to", config.DepositContractAddress)
	}
	if len(problems) == 0 {
		// The rest, such as a blob schedule that makes no sense, go-ethereum knows best.
		if err := config.CheckConfigForkOrder(); err != nil {
			problems = append(problems, err)
		}
	}
	if len(problems) != 0 {
		return fmt.Errorf("chain config: %w", errors.Join(problems...))
	}
	return nil
}

// ValidateForeignConfig returns an error that names everything in the config of another chain under which its blocks cannot be executed again: what
// is sealed by signatures, and forks after Osaka. Proof of work is fine; nobody looks at it.
func ValidateForeignConfig(config *params.ChainConfig) error {
	if config == nil {
		return errors.New("chain config: missing")
	}
	var problems []error
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if id := config.ChainID; id == nil || id.Sign() <= 0 || !id.IsUint64() {
		problem("chainId %v: must be between 1 and 2^64-1", id)
	}
	if config.Clique != nil {
		problem("clique: not supported")
	}
	for name, time := range map[string]*uint64{"amsterdamTime": config.AmsterdamTime, "bogotaTime": config.BogotaTime, "ubtTime": config.UBTTime} {
		if time != nil {
			problem("%s: forks after Osaka are not supported", name)
		}
	}
	if config.EnableUBTAtGenesis {
		problem("enableUBTAtGenesis: binary tries are not supported")
	}
	if err := config.CheckConfigForkOrder(); err != nil {
		problems = append(problems, err)
	}
	if len(problems) != 0 {
		return fmt.Errorf("chain config: %w", errors.Join(problems...))
	}
	return nil
}

// systemContracts are those that the Osaka rules call in every block. Without the request queues a block cannot be
// finished; without the history contract two blocks could have the same state root, which the path-based trie
// database does not allow.
var systemContracts = []struct {
	name    string
	address common.Address
	code    []byte
}{
	{"EIP-4788 beacon roots", params.BeaconRootsAddress, params.BeaconRootsCode},
	{"EIP-2935 block hash history", params.HistoryStorageAddress, params.HistoryStorageCode},
	{"EIP-7002 withdrawal queue", params.WithdrawalQueueAddress, params.WithdrawalQueueCode},
	{"EIP-7251 consolidation queue", params.ConsolidationQueueAddress, params.ConsolidationQueueCode},
}

// ripemd is the address of the RIPEMD-160 precompile.
var ripemd = common.BytesToAddress([]byte{3})

// ValidateAlloc returns an error that names everything in a genesis allocation on which Execute could not work: a
// missing or foreign system contract, and an empty account at the RIPEMD-160 precompile.
//
// The latter because of Ethereum's oldest wart: when an execution that touched address 3 is undone, the touch is not
// (mainnet transaction 0x1237f737…c6fcf2). Were the account there and empty, a skipped transaction could delete it,
// against invariant 2. EIP-161 leaves genesis as the only place that an empty account can come from.
func ValidateAlloc(alloc types.GenesisAlloc) error {
	var problems []error
	for _, c := range systemContracts {
		switch account, ok := alloc[c.address]; {
		case !ok || len(account.Code) == 0:
			problems = append(problems, fmt.Errorf("%s contract missing at %s", c.name, c.address))
		case !bytes.Equal(account.Code, c.code):
			problems = append(problems, fmt.Errorf("%s contract at %s: unknown code", c.name, c.address))
		}
	}
	if a, ok := alloc[ripemd]; ok && a.Nonce == 0 && len(a.Code) == 0 && (a.Balance == nil || a.Balance.Sign() == 0) {
		problems = append(problems, fmt.Errorf("account %s is empty: leave it out, or give it 1 wei", ripemd))
	}
	if len(problems) != 0 {
		return errors.Join(problems...)
	}
	return nil
}
