package peer

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base32"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"ledgerd/consensus"
)

// base32 fits 32 bytes into the 63 characters of a DNS label; hexadecimal does not.
var label = base32.StdEncoding.WithPadding(base32.NoPadding)

// serverName is the name under which a node of a network is known in TLS: <node key>.<network id>.ledgerd, each in base32. It is asked for by who dials and
// stands in every certificate, so that an address which leads to another node, or to the same one in another network, ends in the handshake.
func serverName(network consensus.NetworkID, key publicKey) string {
	return strings.ToLower(label.EncodeToString(key[:]) + "." + label.EncodeToString(network[:]) + ".ledgerd")
}

// newCertificate makes the certificate that carries a node key through TLS. Nobody but the node itself signs it, and it does not run out: the key is what is
// pinned, and the roster says how long it counts.
func newCertificate(network consensus.NetworkID, key ed25519.PrivateKey) (tls.Certificate, error) {
	public := publicKey(key.Public().(ed25519.PublicKey))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "ledgerd"},
		DNSNames:     []string{serverName(network, public)},
		NotBefore:    time.Unix(0, 0),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // "no well-defined expiration date" (RFC 5280 §4.1.2.5)
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// peerKey returns the key that the other side of a finished handshake has proved to own (the CertificateVerify message of TLS 1.3 is a signature with it
// over the whole handshake). Beyond that the certificate must be meant for this network and not have run out by its own words. Its signature and its issuer
// say nothing that we would believe.
func peerKey(network consensus.NetworkID, state tls.ConnectionState) (publicKey, error) {
	if state.Version != tls.VersionTLS13 || state.NegotiatedProtocol != "h2" {
		return publicKey{}, fmt.Errorf("speaks %s and %q, want TLS 1.3 and h2", tls.VersionName(state.Version), state.NegotiatedProtocol)
	}
	if len(state.PeerCertificates) != 1 {
		return publicKey{}, fmt.Errorf("shows %d certificates, want one", len(state.PeerCertificates))
	}
	cert := state.PeerCertificates[0]
	ed, ok := cert.PublicKey.(ed25519.PublicKey)
	if !ok {
		return publicKey{}, fmt.Errorf("has a key of kind %v, want Ed25519", cert.PublicKeyAlgorithm)
	}
	key, ok := keyOf(ed)
	if !ok {
		return publicKey{}, errors.New("has a malformed key")
	}
	if err := cert.VerifyHostname(serverName(network, key)); err != nil {
		return publicKey{}, fmt.Errorf("certificate of another network or key: %w", err)
	}
	if now := time.Now(); now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
		return publicKey{}, fmt.Errorf("certificate is valid from %v to %v only", cert.NotBefore, cert.NotAfter)
	}
	return key, nil
}
