// Command sandbox-cluster is every program of the sandbox's Kubernetes clusters in one static binary.
package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	"k8s.io/component-base/version"
	kubeapiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	kubecontrollermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	kubescheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"

	"cluster/boot"
	"cluster/node"
	"cluster/pki"
)

// programs by name. Those of package boot are missing: they run before this package is initialised.
var programs = map[string]func(args []string) int{
	"etcd": func(args []string) int {
		etcdmain.Main(append([]string{"etcd"}, args...))
		return 0
	},
	// Only the command that runs may be built: two in one process fight over its signals.
	"kube-apiserver":          func(args []string) int { return run(kubeapiserver.NewAPIServerCommand(), args) },
	"kube-controller-manager": func(args []string) int { return run(kubecontrollermanager.NewControllerManagerCommand(), args) },
	"kube-scheduler":          func(args []string) int { return run(kubescheduler.NewSchedulerCommand(), args) },
	boot.KubeletProgram:       func(args []string) int { return run(node.NewCommand(), args) },
	"pki":                     makeKeys,
	"version": func([]string) int {
		fmt.Println(version.Get().String())
		return 0
	},
}

func run(command *cobra.Command, args []string) int {
	command.SetArgs(args)
	return cli.Run(command)
}

func makeKeys(args []string) int {
	if len(args) != 1 {
		fmt.Fprintln(os.Stderr, "usage: sandbox-cluster pki <folder> < specification.json")
		return 2
	}
	if err := pki.Run(args[0], os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "sandbox-cluster pki:", err)
		return 1
	}
	return 0
}

func main() {
	if len(os.Args) >= 2 {
		if program, known := programs[os.Args[1]]; known {
			os.Exit(program(os.Args[2:]))
		}
	}
	names := []string{boot.InitProgram, boot.NodeProgram}
	for name := range programs {
		if name != boot.KubeletProgram {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	fmt.Fprintf(os.Stderr, "usage: sandbox-cluster %s <arguments>\n", strings.Join(names, "|"))
	os.Exit(2)
}
