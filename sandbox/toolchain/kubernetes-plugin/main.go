// Command pulumi-resource-kubernetes is Pulumi's Kubernetes resource plugin.
package main

import (
	_ "embed"

	"github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/provider"
)

// version is what the plugin calls itself; set by the linker to the version of the npm package in use.
var version = "0.0.0"

//go:embed schema-embed.json
var schema []byte

//go:embed terraform-mapping-embed.json
var terraformMapping []byte

func main() {
	provider.Serve("kubernetes", version, schema, terraformMapping)
}
