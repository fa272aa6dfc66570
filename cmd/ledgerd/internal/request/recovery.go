package request

import (
	"encoding/hex"
	"encoding/json"
	"fmt"

	"ledgerd/consensus"
)

const recoveryFormat = "ledgerd recovery 1"

// recoveryFile is a recovery as the content of a file. The order of its fields is that in the file.
type recoveryFile struct {
	Format    string   `json:"format"`
	Hash      string   `json:"hash"` // of the recovery
	Network   string   `json:"network"`
	Epoch     uint64   `json:"epoch"` // that it begins
	Count     uint64   `json:"count"`
	Base      uint64   `json:"base"` // of that epoch
	Digest    string   `json:"digest"`
	UnixMilli uint64   `json:"unixMilli"`
	Spec      specForm `json:"spec"`
	Recovery  string   `json:"recovery"` // all of it once more, as it is signed
}

// EncodeRecovery returns a recovery as the content of a file.
func EncodeRecovery(r consensus.Recovery) []byte {
	return mustIndent(recoveryFile{
		Format: recoveryFormat, Hash: r.Hash().String(), Network: r.NetworkID.String(), Epoch: uint64(r.Epoch), Count: r.Count, Base: uint64(r.Base),
		Digest: r.Digest.String(), UnixMilli: r.UnixMilli, Spec: newSpec(r.Spec), Recovery: hex.EncodeToString(r.Encode()),
	})
}

// IsRecovery reports whether a file claims to hold a recovery.
func IsRecovery(text []byte) bool {
	var f struct {
		Format string `json:"format"`
	}
	return json.Unmarshal(text, &f) == nil && f.Format == recoveryFormat
}

// DecodeRecovery reads a recovery file, as Decode does a request file.
func DecodeRecovery(text []byte) (consensus.Recovery, error) {
	var f struct {
		Recovery string `json:"recovery"`
	}
	if !IsRecovery(text) {
		return consensus.Recovery{}, fmt.Errorf("not a %q", recoveryFormat)
	}
	if err := json.Unmarshal(text, &f); err != nil {
		return consensus.Recovery{}, err
	}
	raw, err := hex.DecodeString(f.Recovery)
	if err != nil {
		return consensus.Recovery{}, fmt.Errorf("its bytes are not hexadecimal: %w", err)
	}
	r, err := consensus.DecodeRecovery(raw)
	if err != nil {
		return consensus.Recovery{}, err
	}
	return r, saysTheSame(text, EncodeRecovery(r))
}
