package home

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"
)

// ErrTooOpen is returned for a secret that others than its owner can read.
var ErrTooOpen = errors.New("others can read it; make a new secret if they may have, then chmod 600")

// ReadSecret reads a file that only its owner may access, or returns ErrTooOpen (invariant 3).
func ReadSecret(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat() // of the open file, so that it cannot be exchanged in between
	if err != nil {
		return nil, err
	}
	// Windows has no such modes; its access lists are the operator's to keep.
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return nil, fmt.Errorf("secret file %s has mode %04o: %w", path, mode, ErrTooOpen)
	}
	if info.Size() > 1<<16 {
		return nil, fmt.Errorf("secret file %s has %d bytes; that is no secret of ours", path, info.Size())
	}
	data := make([]byte, info.Size())
	if _, err := f.ReadAt(data, 0); err != nil && info.Size() > 0 {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return data, nil
}

// jwtSecretBytes is the length of a new secret.
const jwtSecretBytes = 32

// NewJWTSecret writes a random secret to a file that must not exist: 32 bytes in hexadecimal.
func NewJWTSecret(path string) error {
	if err := absent(path); err != nil {
		return err
	}
	secret := make([]byte, jwtSecretBytes)
	rand.Read(secret) // never fails
	return WriteFile(path, []byte(hex.EncodeToString(secret)+"\n"), 0o600)
}

// ReadJWTSecret reads a secret of at least 32 bytes in hexadecimal, with or without 0x.
func ReadJWTSecret(path string) ([]byte, error) {
	data, err := ReadSecret(path)
	if err != nil {
		return nil, err
	}
	secret, err := hex.DecodeString(strings.TrimPrefix(strings.TrimSpace(string(data)), "0x"))
	if err != nil || len(secret) < jwtSecretBytes {
		return nil, fmt.Errorf("JWT secret %s: want at least %d bytes in hexadecimal; `ledgerd keys jwt FILE` makes one", path, jwtSecretBytes)
	}
	return secret, nil
}

// absent refuses to overwrite.
func absent(path string) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w %s: a file of that name is there, and a key is never overwritten", ErrCannotCreate, path)
	}
	return nil
}

// NewKey makes an ed25519 key and writes it to a file that must not exist: PKCS #8 in PEM, as `openssl genpkey
// -algorithm ed25519` does.
func NewKey(path string) (ed25519.PrivateKey, error) {
	if err := absent(path); err != nil {
		return nil, err
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}

// ReadKey reads what NewKey wrote.
func ReadKey(path string) (ed25519.PrivateKey, error) {
	data, err := ReadSecret(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("key %s: no PEM block", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", path, err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("key %s: is a %T, not ed25519", path, parsed)
	}
	return key, nil
}
