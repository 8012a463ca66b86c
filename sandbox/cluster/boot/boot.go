// Package boot holds the small programs that start processes in namespaces. They run inside init, before the packages
// of Kubernetes are initialised: the language specifies that packages are initialised in the order of their import
// paths as soon as what they import is ready, and cluster/boot comes before nearly everything else. So a container
// costs a few milliseconds and megabytes to start, though it is started by the same large binary.
package boot

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Names of the programs, as the first argument of the binary.
const (
	InitProgram      = "init"
	NodeProgram      = "node"
	MachineProgram   = "machine"
	ContainerProgram = "container"
	ExecProgram      = "exec"
	// KubeletProgram is not run here: it is what the machine runs.
	KubeletProgram = "kubelet"
)

// NodeRoot is where a node's folder (its flag --dir) is mounted inside the node. It is short because the kubelet
// listens on unix sockets below it, and their paths are limited to 107 bytes.
const NodeRoot = "/run/kubelet"

func init() {
	if len(os.Args) < 2 {
		return
	}
	var run func(args []string) (int, error)
	switch os.Args[1] {
	case InitProgram:
		run = runInit
	case NodeProgram:
		run = runNode
	case MachineProgram:
		run = runMachine
	case ContainerProgram:
		run = runContainer
	case ExecProgram:
		run = runExec
	default:
		return
	}
	runtime.LockOSThread()
	code, err := run(os.Args[2:])
	if err != nil {
		fmt.Fprintf(os.Stderr, "sandbox-cluster %s: %v\n", os.Args[1], err)
		if code == 0 {
			code = 1
		}
	}
	os.Exit(code)
}

// runInit is pid 1 of a pid namespace: it runs one command, passes signals on to it, reaps what is orphaned, and ends
// as the command ends, which takes everything else in the namespace down.
func runInit(args []string) (int, error) {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		return 2, errors.New("no command given: sandbox-cluster init -- <program> <arguments>")
	}
	path, err := lookPath(args[0], os.Getenv("PATH"))
	if err != nil {
		return 127, err
	}
	return supervise(path, args, &syscall.SysProcAttr{})
}

// runNode starts a machine in a pid and a mount namespace of its own. When this process dies, however it does, the
// machine's pid 1 is killed, and with it every process of every pod: as when the power of a real machine is cut.
func runNode(args []string) (int, error) {
	attr := &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
	}
	return supervise("/proc/self/exe", append([]string{"sandbox-cluster", MachineProgram}, args...), attr)
}

// runMachine is pid 1 of a node. It gives the node a /proc, a /run and a /var/log of its own, mounts the node's folder
// where the kubelet expects it, and runs the kubelet.
func runMachine(args []string) (int, error) {
	dir := flagValue(args, "dir")
	if dir == "" {
		return 2, errors.New("flag --dir is missing: the folder in which the node keeps its files")
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return 1, fmt.Errorf("make mounts private: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return 1, err
	}
	folder, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 1, fmt.Errorf("open %s: %w", dir, err)
	}
	// Refused where the outer /proc is partly hidden, as in some containers: then the outer one is good enough.
	_ = unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	for _, path := range []string{"/run", "/var/log"} {
		if err := unix.Mount("tmpfs", path, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
			return 1, fmt.Errorf("mount tmpfs on %s: %w", path, err)
		}
	}
	if err := os.MkdirAll(NodeRoot, 0o755); err != nil {
		return 1, err
	}
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", folder), NodeRoot, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return 1, fmt.Errorf("mount %s on %s: %w", dir, NodeRoot, err)
	}
	return supervise("/proc/self/exe", append([]string{"sandbox-cluster", KubeletProgram}, args...), &syscall.SysProcAttr{})
}

// supervise runs one child to its end, passing signals on and reaping orphans, and returns the child's exit code.
func supervise(path string, argv []string, attr *syscall.SysProcAttr) (int, error) {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	child, err := syscall.ForkExec(path, argv, &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}, Sys: attr})
	if err != nil {
		return 1, fmt.Errorf("start %s: %w", strings.Join(argv, " "), err)
	}
	go func() {
		for s := range signals {
			_ = syscall.Kill(child, s.(syscall.Signal))
		}
	}()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return 1, fmt.Errorf("wait for %s: %w", argv[0], err)
		}
		if pid == child {
			return ExitCode(status), nil
		}
	}
}

// ExitCode of a process as shells count it: 128 plus the signal's number where a signal ended it.
func ExitCode(status syscall.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// flagValue finds --name=value or --name value among arguments.
func flagValue(args []string, name string) string {
	for i, arg := range args {
		if value, ok := strings.CutPrefix(arg, "--"+name+"="); ok {
			return value
		}
		if arg == "--"+name && i+1 < len(args) {
			return args[i+1]
		}
	}
	return ""
}
