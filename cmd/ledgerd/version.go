package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// release is the version of this source. A build from a repository adds its revision.
const release = "0.1.0"

// versionInfo is what `ledgerd version --json` prints.
type versionInfo struct {
	Version    string `json:"version"`
	Revision   string `json:"revision,omitempty"` // of the repository it was built from
	Modified   bool   `json:"modified,omitempty"` // with changes that were not committed
	Go         string `json:"go"`
	Platform   string `json:"platform"`
	GoEthereum string `json:"goEthereum,omitempty"` // the library that executes: two nodes of one network should have one
}

// readVersion collects what the Go toolchain put into the binary.
func readVersion() versionInfo {
	v := versionInfo{Version: "v" + release, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	for _, s := range build.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	for _, m := range build.Deps {
		if m.Path == "github.com/ethereum/go-ethereum" {
			v.GoEthereum = m.Version
		}
	}
	if len(v.Revision) >= 8 {
		v.Version += "-" + v.Revision[:8]
	}
	return v
}

func (c console) version() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  ledgerd version --json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := readVersion()
			return c.print(asJSON, v, func(w io.Writer) {
				fmt.Fprintf(w, "ledgerd %s (%s, %s, go-ethereum %s)\n", v.Version, v.Go, v.Platform, v.GoEthereum)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
