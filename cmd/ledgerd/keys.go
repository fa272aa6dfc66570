package main

import (
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"ledgerd/cmd/ledgerd/internal/home"
	"ledgerd/cmd/ledgerd/internal/request"
)

func (c console) keys() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Make and show the keys of nodes and administrators",
		Long: `Keys are ed25519, in PKCS #8 PEM files that only their owner can read (mode 0600); a file with a wider mode is
refused. ` + "`openssl pkey -in FILE -noout -text`" + ` reads them too.`,
		Example: `  ledgerd keys new admin.key
  ledgerd keys show ./node/node.key --json
  ledgerd keys sign req.json --key admin.key
  ledgerd keys jwt ./node/jwt.hex`,
	}
	cmd.AddCommand(c.keysNew(), c.keysShow(), c.keysSign(), c.keysJWT())
	return cmd
}

func (c console) keysNew() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "new FILE",
		Short:   "Make a key in a new file and print its public half",
		Example: "  ledgerd keys new admin.key",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			key, err := home.NewKey(args[0])
			if err != nil {
				return err
			}
			return c.printKey(asJSON, args[0], key)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (c console) keysJWT() *cobra.Command {
	return &cobra.Command{
		Use:   "jwt FILE",
		Short: "Make the secret for the tokens of clients (rpc.jwt_secret) in a new file",
		Long: `Writes 32 random bytes in hexadecimal, which is the format of geth too, to a file that only its owner can read. A node whose
rpc.jwt_secret names the file serves those who send a token signed with it (HS256), and may listen on an address that other machines reach.`,
		Example: `  ledgerd keys jwt ./node/jwt.hex
  ledgerd log status --rpc http://10.0.0.1:8545 --jwt-secret ./node/jwt.hex`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return home.NewJWTSecret(args[0]) },
	}
}

func (c console) keysShow() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "show FILE",
		Short:   "Print the public half of a key",
		Example: "  ledgerd keys show ./node/node.key",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			key, err := home.ReadKey(args[0])
			if err != nil {
				return err
			}
			return c.printKey(asJSON, args[0], key)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (c console) keysSign() *cobra.Command {
	var keyFile, out string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "sign REQUEST",
		Short: "Sign a request to reconfigure the log, or a recovery, as one of its administrators",
		Long: `Says in words what a file of ` + "`ledgerd log reconfigure --out`" + ` or ` + "`ledgerd log recover propose`" + ` asks for, signs it, and writes the signature to a file. No node is asked, so it works where the
key is kept. The words are made from the bytes that are signed; a file whose readable part says something else is refused.`,
		Example: `  ledgerd keys sign req.json --key admin.key
  ledgerd keys sign req.json --key admin.key --out sig-a.json --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if keyFile == "" {
				return usagef("--key is missing; see `%s --help`", cmd.CommandPath())
			}
			return c.runSign(args[0], keyFile, out, asJSON)
		},
	}
	cmd.Flags().StringVar(&keyFile, "key", "", "file with the administrator's key (required)")
	cmd.Flags().StringVar(&out, "out", "", "file for the signature; without it REQUEST's name with the beginning of the key")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (c console) runSign(file, keyFile, out string, asJSON bool) error {
	q, lines, err := readSignable(file)
	if err != nil {
		return err
	}
	key, err := home.ReadKey(keyFile)
	if err != nil {
		return err
	}
	signature := q.Sign(key)
	public := hex.EncodeToString(signature.Key)
	if out == "" {
		out = strings.TrimSuffix(file, ".json") + "-" + public[:8] + ".sig.json"
	}
	if err := writeNew(out, request.EncodeSignature(q, signature)); err != nil {
		return err
	}
	form := struct {
		Request string   `json:"request"`
		Key     string   `json:"key"`
		File    string   `json:"file"`
		Asks    []string `json:"asks"`
	}{q.Hash().String(), public, out, nil}
	for _, l := range lines {
		form.Asks = append(form.Asks, l.String())
	}
	return c.print(asJSON, form, func(w io.Writer) {
		printLines(w, append(lines, request.Line{About: "signed by", Text: public}, request.Line{About: "signature", Text: "in " + out}))
	})
}

// readSignable reads a file that asks for a signature, and says in words for what.
func readSignable(path string) (request.Signable, []request.Line, error) {
	if text, err := os.ReadFile(path); err == nil && request.IsRecovery(text) {
		r, err := readRecovery(path)
		return r, request.DescribeRecovery(r), err
	}
	q, err := readRequest(path)
	return q, request.Describe(q), err
}

// printKey prints the public half. The private one leaves its file through no command.
func (c console) printKey(asJSON bool, file string, key ed25519.PrivateKey) error {
	public := hex.EncodeToString(key.Public().(ed25519.PublicKey))
	return c.print(asJSON, map[string]string{"file": file, "publicKey": public}, func(w io.Writer) {
		fmt.Fprintln(w, public)
	})
}
