package main

import (
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"ledgerd/cmd/ledgerd/internal/home"
)

func (c console) keys() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Make and show the keys of nodes and administrators",
		Long: `Keys are ed25519, in PKCS #8 PEM files that only their owner can read (mode 0600); a file with a wider mode is
refused. ` + "`openssl pkey -in FILE -noout -text`" + ` reads them too.`,
		Example: `  ledgerd keys new admin.key
  ledgerd keys show ./node/node.key --json`,
	}
	cmd.AddCommand(c.keysNew(), c.keysShow())
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
			key, err := home.NewNodeKey(args[0])
			if err != nil {
				return err
			}
			return c.printKey(asJSON, args[0], key)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (c console) keysShow() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "show FILE",
		Short:   "Print the public half of a key",
		Example: "  ledgerd keys show ./node/node.key",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			key, err := home.ReadNodeKey(args[0])
			if err != nil {
				return err
			}
			return c.printKey(asJSON, args[0], key)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// printKey prints the public half. The private one leaves its file through no command.
func (c console) printKey(asJSON bool, file string, key ed25519.PrivateKey) error {
	public := hex.EncodeToString(key.Public().(ed25519.PublicKey))
	return c.print(asJSON, map[string]string{"file": file, "publicKey": public}, func(w io.Writer) {
		fmt.Fprintln(w, public)
	})
}
