package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/creack/pty"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	remote "k8s.io/cri-client/pkg"
	"k8s.io/cri-streaming/pkg/streaming"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"

	"cluster/boot"
)

// serveStreams starts the server to which the kubelet passes exec and port-forward requests on.
func (r *Runtime) serveStreams() error {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	config := streaming.DefaultConfig
	config.BaseURL = &url.URL{Scheme: "http", Host: listener.Addr().String(), Path: "/"}
	if r.streams, err = streaming.NewServer(config, &streamer{r}); err != nil {
		return err
	}
	server := &http.Server{Handler: r.streams}
	go func() {
		fmt.Fprintln(os.Stderr, "streaming server:", server.Serve(listener))
	}()
	return nil
}

// Exec prepares a stream to a command in a container.
func (r *Runtime) Exec(_ context.Context, request *runtimeapi.ExecRequest) (*runtimeapi.ExecResponse, error) {
	if _, err := r.find(request.ContainerId); err != nil {
		return nil, err
	}
	return r.streams.GetExec(request)
}

// Attach is refused: a container's streams go to its log, and nowhere else.
func (r *Runtime) Attach(context.Context, *runtimeapi.AttachRequest) (*runtimeapi.AttachResponse, error) {
	return nil, refusal("attaching to containers: use kubectl logs -f or kubectl exec")
}

// PortForward prepares a stream to a port of a pod.
func (r *Runtime) PortForward(_ context.Context, request *runtimeapi.PortForwardRequest) (*runtimeapi.PortForwardResponse, error) {
	return r.streams.GetPortForward(request)
}

// ExecSync runs a command in a container to its end.
func (r *Runtime) ExecSync(ctx context.Context, id string, args []string, timeout time.Duration) (stdout, stderr []byte, err error) {
	c, err := r.find(id)
	if err != nil {
		return nil, nil, err
	}
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	var out, problems bytes.Buffer
	err = c.exec(ctx, args, nil, &out, &problems)
	if ctx.Err() != nil && timeout > 0 {
		err = fmt.Errorf("%w: %q timed out after %s", remote.ErrCommandTimedOut, args, timeout)
	}
	return out.Bytes(), problems.Bytes(), err
}

// command prepares a process that enters the container and runs a command there. The returned file is to be closed
// once the process has started.
func (c *container) command(ctx context.Context, args []string, terminal bool) (*exec.Cmd, []*os.File, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.pidFile == nil {
		return nil, nil, fmt.Errorf("container %s does not run", c.config.GetMetadata().GetName())
	}
	// A copy of its own: the container may end, and its file be closed, before the command has started.
	target, err := duplicate(c.pidFile)
	if err != nil {
		return nil, nil, err
	}
	spec, err := specPipe(&boot.ExecSpec{
		Args:            args,
		Env:             c.spec.Env,
		Cwd:             c.spec.Cwd,
		Terminal:        terminal,
		NoNewPrivileges: c.spec.NoNewPrivileges,
		Capabilities:    c.spec.Capabilities,
	})
	if err != nil {
		return nil, nil, errors.Join(err, target.Close())
	}
	command := exec.CommandContext(ctx, "/proc/self/exe", boot.ExecProgram)
	command.Env = []string{}
	command.ExtraFiles = []*os.File{spec, target}
	// What the command leaves running in the background may keep its output open; do not wait for that.
	command.WaitDelay = time.Second
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	return command, command.ExtraFiles, nil
}

// exec runs a command in the container and returns a utilexec.ExitError if it fails.
func (c *container) exec(ctx context.Context, args []string, in io.Reader, out, problems io.Writer) error {
	command, passed, err := c.command(ctx, args, false)
	if err != nil {
		return err
	}
	command.Stdout, command.Stderr = out, problems
	if in != nil {
		// Not command.Stdin: a caller that keeps its end open must not keep a command from ending.
		pipe, err := command.StdinPipe()
		if err != nil {
			return err
		}
		go func() {
			_, _ = io.Copy(pipe, in)
			_ = pipe.Close()
		}()
	}
	err = command.Start()
	for _, file := range passed {
		_ = file.Close()
	}
	if err != nil {
		return err
	}
	return exitError(command.Wait())
}

func (c *container) execTerminal(ctx context.Context, args []string, in io.Reader, out io.Writer, resize <-chan remotecommand.TerminalSize) error {
	command, passed, err := c.command(ctx, args, true)
	if err != nil {
		return err
	}
	terminal, end, err := pty.Open()
	if err != nil {
		return err
	}
	defer terminal.Close()
	command.Stdin, command.Stdout, command.Stderr = end, end, end
	err = command.Start()
	for _, file := range append(passed, end) {
		_ = file.Close()
	}
	if err != nil {
		return err
	}
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		for {
			select {
			case size, more := <-resize:
				if !more {
					return
				}
				_ = pty.Setsize(terminal, &pty.Winsize{Rows: size.Height, Cols: size.Width})
			case <-ended:
				return
			}
		}
	}()
	if in != nil {
		go func() { _, _ = io.Copy(terminal, in) }()
	}
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		_, _ = io.Copy(out, terminal) // ends with EIO when the last process closes the terminal
	}()
	err = command.Wait()
	select {
	case <-copied:
	case <-time.After(time.Second):
	}
	return exitError(err)
}

func exitError(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code := exit.ExitCode()
		return utilexec.CodeExitError{Err: fmt.Errorf("command terminated with exit code %d", code), Code: code}
	}
	if errors.Is(err, exec.ErrWaitDelay) {
		return nil
	}
	return err
}

// streamer answers the streaming server's requests.
type streamer struct{ runtime *Runtime }

func (s *streamer) Exec(ctx context.Context, id string, args []string, in io.Reader, out, problems io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) error {
	c, err := s.runtime.find(id)
	if err != nil {
		return err
	}
	if tty {
		return c.execTerminal(ctx, args, in, out, resize)
	}
	// The interfaces must be nil, not hold nil, where a stream was not asked for.
	var stdout, stderr io.Writer
	if out != nil {
		stdout = out
	}
	if problems != nil {
		stderr = problems
	}
	return c.exec(ctx, args, in, stdout, stderr)
}

func (s *streamer) Attach(context.Context, string, io.Reader, io.WriteCloser, io.WriteCloser, bool, <-chan remotecommand.TerminalSize) error {
	return refusal("attaching to containers")
}

func (s *streamer) PortForward(_ context.Context, id string, port int32, stream io.ReadWriteCloser) error {
	defer stream.Close()
	s.runtime.mutex.Lock()
	pod := s.runtime.sandboxes[id]
	var namespace *os.File
	var err error
	if pod != nil && pod.namespace != nil {
		namespace, err = duplicate(pod.namespace)
	}
	s.runtime.mutex.Unlock()
	if err != nil {
		return err
	}
	if namespace == nil {
		return fmt.Errorf("the pod has no network of its own")
	}
	conn, err := dial(namespace, port)
	_ = namespace.Close()
	if err != nil {
		return err
	}
	defer conn.Close()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = io.Copy(conn, stream)
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	_, err = io.Copy(stream, conn)
	return err
}
