package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"cluster/boot"
)

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// container is one run of one program in a pod.
type container struct {
	id        string
	dir       string
	sandboxID string
	config    *runtimeapi.ContainerConfig
	imageName string
	imageID   string
	logPath   string
	created   time.Time
	// sandbox and spec are missing for a container of an earlier run of the node, which cannot run again.
	sandbox *sandbox
	spec    *boot.Spec
	// done is closed when the program has ended and its output is written.
	done chan struct{}

	mutex    sync.Mutex
	state    runtimeapi.ContainerState
	pid      int
	pidFile  *os.File
	log      *containerLog
	started  time.Time
	finished time.Time
	exitCode int
	reason   string
	message  string
}

// specOf works out what a container is made of from what the pod asks for and what its image gives.
func (r *Runtime) specOf(c *container, image *Image, pod *runtimeapi.PodSandboxConfig) (*boot.Spec, error) {
	security := c.config.GetLinux().GetSecurityContext()
	capabilities, err := capabilitiesOf(security)
	if err != nil {
		return nil, err
	}
	args := c.config.Command
	if len(args) == 0 {
		args = image.Entrypoint
		if len(c.config.Args) == 0 {
			args = append(append([]string{}, args...), image.Command...)
		}
	}
	args = append(append([]string{}, args...), c.config.Args...)
	if len(args) == 0 {
		return nil, fmt.Errorf("the image %s has no entrypoint: give the container a command", image.Image)
	}
	hostname := pod.GetHostname()
	if hostname == "" {
		if hostname, err = os.Hostname(); err != nil {
			return nil, err
		}
	}
	env := append([]string{"PATH=" + defaultPath, "HOME=/root", "HOSTNAME=" + hostname}, image.Env...)
	for _, variable := range c.config.Envs {
		value := string(variable.Value)
		switch variable.Key {
		case "KUBERNETES_SERVICE_HOST":
			value = r.apiServer.Hostname()
		case "KUBERNETES_SERVICE_PORT", "KUBERNETES_SERVICE_PORT_HTTPS":
			value = r.apiServer.Port()
		}
		env = append(env, variable.Key+"="+value)
	}
	cwd := c.config.WorkingDir
	if cwd == "" {
		cwd = image.Workdir
	}
	spec := &boot.Spec{
		Hostname:        hostname,
		Root:            filepath.Join(c.dir, "root"),
		ReadOnlyRoot:    security.GetReadonlyRootfs(),
		OwnNetwork:      c.sandbox.namespace != nil,
		Image:           image.Files,
		Args:            args,
		Env:             unique(env),
		Cwd:             cwd,
		Terminal:        c.config.Tty,
		NoNewPrivileges: security.GetNoNewPrivs(),
		Capabilities:    capabilities,
		Etc: map[string]string{
			"resolv.conf":   resolverFile(pod.GetDnsConfig()),
			"hostname":      hostname + "\n",
			"hosts":         "127.0.0.1 localhost\n",
			"nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
			"passwd":        "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n",
			"group":         "root:x:0:\nnogroup:x:65534:\n",
		},
	}
	for _, mount := range c.config.Mounts {
		if mount.Image != nil {
			return nil, refusal("image volumes (%s)", mount.ContainerPath)
		}
		if mount.Propagation == runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL {
			return nil, refusal("mountPropagation: Bidirectional (%s)", mount.ContainerPath)
		}
		// A host path that is not there becomes a folder, as with other runtimes.
		if _, err := os.Stat(mount.HostPath); errors.Is(err, os.ErrNotExist) {
			if err := os.MkdirAll(mount.HostPath, 0o755); err != nil {
				return nil, err
			}
		}
		spec.Mounts = append(spec.Mounts, boot.Mount{Source: mount.HostPath, Target: mount.ContainerPath, ReadOnly: mount.Readonly})
	}
	return spec, nil
}

// unique keeps the last of the variables that have the same name, where the first stood.
func unique(env []string) []string {
	place := map[string]int{}
	var result []string
	for _, entry := range env {
		name, _, _ := strings.Cut(entry, "=")
		if at, ok := place[name]; ok {
			result[at] = entry
			continue
		}
		place[name] = len(result)
		result = append(result, entry)
	}
	return result
}

// files that a process is started with, and those of them that only the child keeps.
type files struct {
	child []*os.File
	close []*os.File
}

func (f *files) closeAll() {
	for _, file := range f.close {
		_ = file.Close()
	}
}

// specPipe gives a pipe from which a child reads its specification.
func specPipe(spec any) (*os.File, error) {
	content, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	go func() {
		// Fails only if the child ends before it has read, which is noticed elsewhere.
		_, _ = writer.Write(content)
		_ = writer.Close()
	}()
	return reader, nil
}

// start runs the container's program. An error means that it did not come to run; the container then counts as ended,
// with exit code 128, as with other runtimes.
func (c *container) start() error {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.state != runtimeapi.ContainerState_CONTAINER_CREATED {
		return fmt.Errorf("container %s was started before", c.id)
	}
	err := c.launch()
	if err != nil {
		c.state = runtimeapi.ContainerState_CONTAINER_EXITED
		c.started, c.finished = time.Now(), time.Now()
		c.exitCode, c.reason, c.message = 128, "StartError", err.Error()
		close(c.done)
	}
	return errors.Join(err, c.save())
}

func (c *container) launch() error {
	log, err := openLog(c.logPath)
	if err != nil {
		return err
	}
	stdio, outputs, err := c.openStdio()
	if err != nil {
		return errors.Join(err, log.close())
	}
	pid, pidFile, err := c.spawn(stdio.child)
	stdio.closeAll()
	if err != nil {
		for _, output := range outputs {
			_ = output.Close()
		}
		return errors.Join(err, log.close())
	}
	c.log, c.pid, c.pidFile = log, pid, pidFile
	c.started, c.state = time.Now(), runtimeapi.ContainerState_CONTAINER_RUNNING
	var copying sync.WaitGroup
	for stream, output := range outputs {
		copying.Add(1)
		go func() {
			defer copying.Done()
			// An error can only be that the disk is full; the program must go on nevertheless.
			if err := log.copy(stream, output); err != nil {
				_, _ = io.Copy(io.Discard, output)
			}
			_ = output.Close()
		}()
	}
	go c.wait(&copying)
	return nil
}

// openStdio opens what will be the program's stdin, stdout and stderr, and the ends from which output is read.
func (c *container) openStdio() (*files, map[string]*os.File, error) {
	if c.config.Tty {
		terminal, end, err := pty.Open()
		if err != nil {
			return nil, nil, err
		}
		return &files{child: []*os.File{end, end, end}, close: []*os.File{end}}, map[string]*os.File{"stdout": terminal}, nil
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, nil, err
	}
	result := &files{child: []*os.File{null}, close: []*os.File{null}}
	outputs := map[string]*os.File{}
	for _, stream := range []string{"stdout", "stderr"} {
		reader, writer, err := os.Pipe()
		if err != nil {
			result.closeAll()
			for _, output := range outputs {
				_ = output.Close()
			}
			return nil, nil, err
		}
		result.child = append(result.child, writer)
		result.close = append(result.close, writer)
		outputs[stream] = reader
	}
	return result, outputs, nil
}

// spawn starts the first process of the container and waits until it has become the container's program.
func (c *container) spawn(stdio []*os.File) (int, *os.File, error) {
	spec, err := specPipe(c.spec)
	if err != nil {
		return 0, nil, err
	}
	defer spec.Close()
	report, reportEnd, err := os.Pipe()
	if err != nil {
		return 0, nil, err
	}
	defer report.Close()
	passed := append(append([]*os.File{}, stdio...), spec, reportEnd)
	if c.spec.OwnNetwork {
		if c.sandbox.namespace == nil {
			return 0, nil, errors.Join(errors.New("the pod's network is gone"), reportEnd.Close())
		}
		passed = append(passed, c.sandbox.namespace)
	}
	pidFd := -1
	process, err := os.StartProcess("/proc/self/exe", []string{"sandbox-cluster", boot.ContainerProgram}, &os.ProcAttr{
		Env:   []string{},
		Files: passed,
		Sys: &syscall.SysProcAttr{
			Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
			Setsid:     true,
			PidFD:      &pidFd,
		},
	})
	if closeErr := reportEnd.Close(); closeErr != nil && err == nil {
		err = closeErr
	}
	if err != nil {
		return 0, nil, err
	}
	problem, err := io.ReadAll(report)
	if err != nil || len(problem) > 0 {
		_ = process.Kill()
		_, _ = process.Wait()
		return 0, nil, errors.Join(err, errors.New(string(problem)))
	}
	if pidFd < 0 {
		return 0, nil, errors.New("this kernel gives no pid file descriptors: the sandbox needs Linux 5.12 or newer")
	}
	pid := process.Pid
	_ = process.Release()
	return pid, os.NewFile(uintptr(pidFd), "pidfd"), nil
}

// wait records the end of the program. All other processes of the container end with it, because it is their pid 1.
func (c *container) wait(copying *sync.WaitGroup) {
	var result syscall.WaitStatus
	for {
		_, err := syscall.Wait4(c.pid, &result, 0, nil)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	finished := time.Now()
	copying.Wait()
	c.mutex.Lock()
	defer c.mutex.Unlock()
	_ = c.log.close()
	_ = c.pidFile.Close()
	c.log, c.pidFile = nil, nil
	c.state, c.finished = runtimeapi.ContainerState_CONTAINER_EXITED, finished
	c.exitCode, c.reason = boot.ExitCode(result), "Completed"
	if c.exitCode != 0 {
		c.reason = "Error"
	}
	if err := c.save(); err != nil {
		// The container has ended all the same; only a restart of the node would not know how.
		fmt.Fprintf(os.Stderr, "container %s: %v\n", c.id, err)
	}
	close(c.done)
}

// signal sends one to the container's first process, if it still runs.
func (c *container) signal(s syscall.Signal) error {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.pidFile == nil {
		return nil
	}
	err := unix.PidfdSendSignal(int(c.pidFile.Fd()), s, nil, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// stop ends the container: with a signal that it may heed for as long as the grace period, then by force.
func (c *container) stop(ctx context.Context, grace time.Duration) error {
	c.mutex.Lock()
	running := c.state == runtimeapi.ContainerState_CONTAINER_RUNNING
	c.mutex.Unlock()
	if !running {
		return nil
	}
	if grace > 0 {
		if err := c.signal(c.stopSignal()); err != nil {
			return err
		}
		select {
		case <-c.done:
			return nil
		case <-time.After(grace):
		case <-ctx.Done():
		}
	}
	if err := c.signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-c.done
	return nil
}

func (c *container) stopSignal() syscall.Signal {
	if s := unix.SignalNum(c.config.StopSignal.String()); s != 0 {
		return s
	}
	return syscall.SIGTERM
}

func (c *container) reopenLog() error {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.log == nil {
		return fmt.Errorf("container %s does not run", c.id)
	}
	return c.log.reopen()
}

func (c *container) status() *runtimeapi.ContainerStatus {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	result := &runtimeapi.ContainerStatus{
		Id:          c.id,
		Metadata:    c.config.Metadata,
		State:       c.state,
		CreatedAt:   c.created.UnixNano(),
		ExitCode:    int32(c.exitCode),
		Image:       &runtimeapi.ImageSpec{Image: c.imageName, UserSpecifiedImage: c.config.GetImage().GetUserSpecifiedImage()},
		ImageRef:    c.imageID,
		ImageId:     c.imageID,
		Reason:      c.reason,
		Message:     c.message,
		Labels:      c.config.Labels,
		Annotations: c.config.Annotations,
		Mounts:      c.config.Mounts,
		LogPath:     c.logPath,
	}
	if !c.started.IsZero() {
		result.StartedAt = c.started.UnixNano()
	}
	if !c.finished.IsZero() {
		result.FinishedAt = c.finished.UnixNano()
	}
	return result
}

// duplicate opens the same file once more.
func duplicate(file *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), file.Name()), nil
}
