package boot

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// ExecSpec is a command to run inside a container that is already there.
type ExecSpec struct {
	Args            []string
	Env             []string
	Cwd             string
	Terminal        bool
	NoNewPrivileges bool
	Capabilities    *[]int
}

// runExec enters a container's namespaces and runs a command there, with this process's stdin, stdout and stderr. It
// ends as the command ends, and kills it when asked to end itself with SIGTERM. 126 and 127 mean, as in shells, that
// the command could not be run or was not found.
func runExec([]string) (int, error) {
	var spec ExecSpec
	if err := readSpec(&spec); err != nil {
		return 126, err
	}
	// A mount namespace can be entered only by a thread that shares root and working directory with no other.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return 126, err
	}
	namespaces := unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
	if err := unix.Setns(targetFd, namespaces); err != nil {
		return 126, fmt.Errorf("enter the container: %w", err)
	}
	if err := unix.Close(targetFd); err != nil {
		return 126, err
	}
	if err := unix.Chdir(spec.Cwd); err != nil {
		return 126, fmt.Errorf("working directory %s: %w", spec.Cwd, err)
	}
	path, err := lookPath(spec.Args[0], valueOf(spec.Env, "PATH"))
	if err != nil {
		return 127, err
	}
	// The bounding set is inherited by the child, which is forked from this very thread.
	if err := limit(spec.Capabilities, spec.NoNewPrivileges); err != nil {
		return 126, err
	}
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM)
	attr := &syscall.SysProcAttr{Setsid: true, Setctty: spec.Terminal, Ctty: 0}
	child, err := syscall.ForkExec(path, spec.Args, &syscall.ProcAttr{Env: spec.Env, Files: []uintptr{0, 1, 2}, Sys: attr})
	if err != nil {
		return 126, fmt.Errorf("exec %s: %w", path, err)
	}
	// Not by Pdeathsig: its set-up takes a parent outside the pid namespace for one that has died.
	go func() {
		<-asked
		_ = syscall.Kill(child, syscall.SIGKILL)
	}()
	// Only the command may hold them open: otherwise readers of its output would wait for this process too.
	for _, file := range []*os.File{os.Stdin, os.Stdout} {
		_ = file.Close()
	}
	for {
		var status syscall.WaitStatus
		_, err := syscall.Wait4(child, &status, 0, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return 126, err
		}
		return ExitCode(status), nil
	}
}
